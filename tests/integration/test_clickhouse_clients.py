"""The clients that analysts use read the embedded server like a real one: the document's twenty questions by
clickhouse-connect, clickhouse-go, the JDBC driver and @clickhouse/client, on a host whose time zone is not UTC.

Each client is a program of tests/clients in a process of its own; what it needs is installed into a temporary
folder, through the tools' own caches.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clickhouse_server import Running, ask
from tests.integration.analyst_log import Log, Rows
from tests.integration.analyst_server import acme_log, analyst_server, answer, asked_of, near
from tests.integration.analyst_truths import TRUTHS
from tests.synthetic.questions import questions

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
CLIENTS = Path(__file__).parents[1] / "clients"
ZONE = "America/New_York"
_INSTALL_S = 600
_ASK_S = 120
# Several blocks, in which the clients' ways of reading on must agree with ours of writing.
MANY = "SELECT number, toString(number) FROM numbers(200000) ORDER BY number"
TIMES = """
SELECT toDateTime('2026-11-11 07:30:00') AS of_the_server, toDateTime(1762846200) AS of_a_number,
       toDateTime64('2026-07-01 12:00:00.123456', 6, 'UTC') AS in_utc,
       toDateTime64('2026-07-01 12:00:00.5', 3, 'UTC') AS in_summer, toDate('2026-07-01') AS day
"""
TIMES_TOLD = [
    *("2026-11-11 07:30:00", "2025-11-11 07:30:00"),
    *("2026-07-01 12:00:00.123456", "2026-07-01 12:00:00.500", "2026-07-01"),
]
Client = Callable[[str, str, Path], list[str]]
"""(host and port, user, folder to install into) -> the command line, but for the file of statements."""


def connect(address: str, user: str, folder: Path) -> list[str]:
    return [sys.executable, str(CLIENTS / "python" / "asks.py"), _url(address, user)]


def go(address: str, user: str, folder: Path) -> list[str]:
    _installed("go", "build", "-o", str(folder / "asks"), ".", cwd=CLIENTS / "go")
    return [str(folder / "asks"), _url(address, user)]


def go_with_lz4(address: str, user: str, folder: Path) -> list[str]:
    program, url = go(address, user, folder)
    return [program, f"{url}?compress=lz4"]


def node(address: str, user: str, folder: Path) -> list[str]:
    shutil.copytree(CLIENTS / "js", folder / "js")
    _installed("npm", "ci", "--prefer-offline", "--no-audit", "--no-fund", cwd=folder / "js")
    return [_found("node"), str(folder / "js" / "asks.js"), _url(address, user)]


def jdbc(address: str, user: str, folder: Path) -> list[str]:
    java = _found("java")
    libraries = f"-DoutputDirectory={folder}"
    _installed("mvn", "-q", "-B", "dependency:copy-dependencies", libraries, cwd=CLIENTS / "jdbc")
    url = f"jdbc:clickhouse://{address}/turnstile"
    return [java, "-cp", f"{folder}/*", str(CLIENTS / "jdbc" / "Asks.java"), url, user]


@pytest.fixture(scope="module")
def log() -> Log:
    return acme_log()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, log: Log) -> Iterator[Running]:
    with analyst_server(tmp_path_factory.mktemp("clients"), log, TZ=ZONE) as running:
        yield running


@pytest.mark.parametrize("client", [connect, go, go_with_lz4, node, jdbc])
def test_a_client_gets_the_answers_of_the_twenty_questions(
    server: Running, log: Log, client: Client, tmp_path: Path
) -> None:
    asked = [(words, asked_of(log, sql)) for words, sql in questions()]
    statements = [*(sql for _, sql in asked), TIMES, MANY]
    command = client(f"{server.host}:{server.port}", "analyst", tmp_path)
    *answers, times, many = _ask(command, statements, tmp_path)
    wrong = {
        words: (found[:3], expected[:3])
        for (words, sql), found in zip(asked, answers, strict=True)
        if not near(found, expected := _expected(server, log, words, sql))
    }
    assert len(answers) == 20
    assert not wrong
    assert near(times, [TIMES_TOLD])
    assert many == [[number, str(number)] for number in range(200_000)]


def test_the_server_says_its_time_zone(server: Running) -> None:
    said = ask(server.base, "SELECT timezone(), toDateTime(0)")
    assert said.body == b"UTC\t1970-01-01 00:00:00\n"
    assert said.headers["x-clickhouse-timezone"] == "UTC"


def _expected(server: Running, log: Log, words: str, sql: str) -> Rows:
    """What a plain program computes, or plain HTTP gives where the question only shows rows."""
    truths = [truth for start, truth in TRUTHS.items() if words.startswith(start)]
    return truths[0](log) if truths else answer(server, sql)


def _ask(command: list[str], statements: list[str], folder: Path) -> list[Rows]:
    file = folder / "statements"
    divided = "\n----\n".join(statements)
    file.write_text(divided if "-cp" in command else json.dumps(statements))
    done = subprocess.run(
        [*command, str(file)],
        capture_output=True,
        text=True,
        env={**os.environ, "TZ": ZONE},
        timeout=_ASK_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def _installed(tool: str, *arguments: str, cwd: Path) -> None:
    done = subprocess.run(
        [_found(tool), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=_INSTALL_S,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def _found(tool: str) -> str:
    path = shutil.which(tool)
    if path is None:
        pytest.skip(f"no {tool} on this machine")
    return path


def _url(address: str, user: str) -> str:
    return f"http://{user}:@{address}/turnstile"
