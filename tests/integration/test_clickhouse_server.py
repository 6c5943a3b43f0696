"""The embedded server as a process: start, stop, kill, limits, users, client libraries."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError

from tests.clickhouse_server import (
    ROOT,
    Running,
    ask,
    shared_clickhouse,
    start_clickhouse,
    stop_clickhouse,
)

pytestmark = pytest.mark.integration

USERS = """
[users.default]
password = "root"
[users.reader]
readonly = 1
database = "kept"
[users.reader.settings]
max_result_rows = 10
[users.tuner]
readonly = 2
[users.tuner.settings]
max_result_rows = 10
"""
ROOT_USER = {"user": "default", "password": "root"}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with two places, small bodies and users with passwords."""
    folder = tmp_path_factory.mktemp("clickhouse")
    (folder / "users.toml").write_text(USERS)
    running = start_clickhouse(
        folder / "data",
        *("--users", str(folder / "users.toml")),
        *("--max-concurrent-queries", "2", "--max-body-bytes", "1000000"),
    )
    assert ask(running.base, "CREATE DATABASE kept", ROOT_USER).status == 200
    sql = "CREATE TABLE kept.t (a UInt64) ENGINE = MergeTree ORDER BY a AS SELECT * FROM numbers(5)"
    assert ask(running.base, sql, ROOT_USER).status == 200
    yield running
    stop_clickhouse(running)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    running = shared_clickhouse()
    client = clickhouse_connect.get_client(host=running.host, port=running.port)
    client.command("CREATE DATABASE IF NOT EXISTS clients")
    yield client
    client.close()


Start = Callable[..., Running]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts servers that end with the test, however it ends."""
    started: list[Running] = []

    def start_one(path: Path) -> Running:
        started.append(start_clickhouse(path))
        return started[-1]

    yield start_one
    for running in started:
        stop_clickhouse(running)


def fill(base: str, rows: int) -> None:
    assert ask(base, "CREATE DATABASE IF NOT EXISTS d").status == 200
    sql = "CREATE TABLE IF NOT EXISTS d.t (a UInt64) ENGINE = MergeTree ORDER BY a"
    assert ask(base, sql).status == 200
    data = "".join(f'{{"a":{number}}}\n' for number in range(rows))
    assert ask(base, data, query="INSERT INTO d.t FORMAT JSONEachRow").status == 200


def test_a_stop_is_clean_and_data_is_there_again(start: Start, tmp_path: Path) -> None:
    running = start(tmp_path)
    fill(running.base, 1000)
    assert stop_clickhouse(running) == 0
    again = start(tmp_path)
    assert ask(again.base, "SELECT count() FROM d.t").body == b"1000\n"
    assert stop_clickhouse(again) == 0


def test_acknowledged_rows_survive_kill_9(start: Start, tmp_path: Path) -> None:
    running = start(tmp_path)
    fill(running.base, 1000)
    running.process.kill()
    running.process.wait(30)
    again = start(tmp_path)
    assert ask(again.base, "SELECT count(), sum(a) FROM d.t").body == b"1000\t499500\n"


def test_a_stop_waits_for_a_running_query(start: Start, tmp_path: Path) -> None:
    running = start(tmp_path)
    answers: list[bytes] = []
    sql = "SELECT sleepEachRow(0.5) FROM numbers(4) SETTINGS max_block_size = 1"
    asking = threading.Thread(target=lambda: answers.append(ask(running.base, sql).body))
    asking.start()
    while ask(running.base, "SELECT count() FROM system.processes").body == b"1\n":
        pass
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(30) == 0
    asking.join()
    assert answers == [b"0\n" * 4]


def starting(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infra.clickhouse.server", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_port_in_use_and_a_directory_in_use_are_named(start: Start, tmp_path: Path) -> None:
    running = start(tmp_path / "a")
    taken = starting("--path", str(tmp_path / "b"), "--port", str(running.port))
    assert (taken.returncode, taken.stdout) == (1, "")
    assert f"port {running.port} on 127.0.0.1 is in use" in taken.stderr
    locked = starting("--path", str(tmp_path / "a"), "--port", "0")
    assert locked.returncode == 1
    assert f"pid: {running.process.pid}" in locked.stderr


def test_open_users_on_an_open_address_are_refused(tmp_path: Path) -> None:
    refused = starting("--path", str(tmp_path), "--port", "0", "--host", "0.0.0.0")
    assert refused.returncode == 1
    assert "no password: default, analyst" in refused.stderr


def test_a_user_is_let_in_by_password_alone(small: Running) -> None:
    assert ask(small.base, "SELECT 1").status == 401
    assert ask(small.base, "SELECT 1", ROOT_USER).status == 200
    wrong = ask(small.base, "SELECT 1", user="default", password="x")
    assert (wrong.status, wrong.code) == (403, 516)
    key = {"X-ClickHouse-User": "default", "X-ClickHouse-Key": "root"}
    assert ask(small.base, "SELECT 1", headers=key).status == 200


@pytest.mark.parametrize("user", ["reader", "tuner"])
@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO kept.t VALUES (9)",
        "DROP TABLE kept.t",
        "CREATE TABLE kept.x (a Int8) ENGINE = Memory",
        "TRUNCATE TABLE kept.t",
        "SELECT * FROM url('http://127.0.0.1:1/', 'TSV', 'a Int8')",
        "SELECT * FROM s3('http://127.0.0.1:1/b/k', 'TSV', 'a Int8')",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "DESCRIBE file('/etc/passwd')",
        "SELECT file('/etc/passwd')",
        "SELECT arrayMap(file, ['/etc/passwd'])",
        "SELECT * APPLY(file) FROM (SELECT '/etc/passwd' AS a)",
        "SELECT 1 INTO OUTFILE '/tmp/never'",
        "SELECT * FROM default.`/etc/passwd`",
        "SELECT * FROM `default` . `/etc/passwd` LIMIT 1",
        "SELECT * FROM default /* x */ . `/etc/passwd` LIMIT 1",
        "SELECT * FROM merge('default', '.*') LIMIT 1",
        "SELECT 1; DROP TABLE kept.t",
        "SYSTEM FLUSH LOGS",
        "KILL QUERY WHERE 1",
        "SET readonly = 0",
    ],
)
def test_read_only_users_only_read(small: Running, user: str, sql: str) -> None:
    answer = ask(small.base, sql, user=user)
    assert answer.code in (164, 452), answer.body
    assert b"root:" not in answer.body
    assert ask(small.base, "SELECT count() FROM kept.t", user=user).body == b"5\n"


@pytest.mark.parametrize(
    "sql",
    ["SELECT 1", "SHOW TABLES", "DESCRIBE t", "EXPLAIN SELECT 1", "EXISTS t", "SHOW CREATE TABLE t",
     "WITH 1 AS x SELECT x", "SELECT * FROM numbers(3)", "USE system"],
)  # fmt: skip
def test_read_only_users_may_read(small: Running, sql: str) -> None:
    assert ask(small.base, sql, user="reader").status == 200


def test_files_cannot_be_reached_by_database_or_parameter(small: Running) -> None:
    for user in ("reader", "tuner"):
        table = "SELECT * FROM '/etc/passwd' LIMIT 1"
        assert ask(small.base, table, user=user).code in (60, 164)
        assert ask(small.base, table, user=user, database="default").code == 164
        assert ask(small.base, "USE default", user=user, session_id="f").code in (0, 164)
        assert ask(small.base, table, user=user, session_id="f").code in (60, 164)
        named = "SELECT * FROM {d:Identifier}.{t:Identifier} LIMIT 1"
        assert (
            ask(small.base, named, user=user, param_d="default", param_t="/etc/passwd").code == 164
        )


def test_the_row_limit_cannot_be_lifted(small: Running) -> None:
    many = "SELECT number FROM numbers(100)"
    assert ask(small.base, many, user="reader").code == 396
    assert ask(small.base, many + " LIMIT 10", user="reader").status == 200
    assert ask(small.base, many, user="reader", max_result_rows=0).code == 164
    assert ask(small.base, many + " SETTINGS max_result_rows = 0", user="reader").code == 164
    assert ask(small.base, many, user="tuner").code == 396
    assert ask(small.base, many, user="tuner", max_result_rows=0).code == 452
    assert ask(small.base, many + " SETTINGS max_result_rows = 0", user="tuner").code == 452
    assert ask(small.base, "SET max_result_rows = 0", user="tuner", session_id="s").code == 452
    threads = ask(small.base, "SELECT getSetting('max_threads')", user="tuner", max_threads=3)
    assert threads.body == b"3\n"


def test_a_read_only_user_may_ask_for_less_time_and_not_for_more(small: Running) -> None:
    limit = "SELECT getSetting('max_execution_time')"
    [own] = [float(ask(small.base, limit, user="reader").body)]
    for given, counts in ((5, 5.0), (own + 100, own), (0, own), ("x", own)):
        answer = ask(small.base, limit, user="reader", max_execution_time=given)
        assert (answer.status, float(answer.body)) == (200, counts)
    slow = ask(small.base, "SELECT sleep(3)", user="reader", max_execution_time=0.2)
    assert slow.code == 159


def test_a_body_beyond_the_limit_is_refused(small: Running) -> None:
    answer = ask(small.base, b"x" * 1_100_000, ROOT_USER)
    assert answer.status == 413
    assert b"1000000 bytes" in answer.body


def test_more_queries_than_places_get_503(small: Running) -> None:
    with ThreadPoolExecutor(6) as pool:
        sent = [pool.submit(ask, small.base, "SELECT sleep(2)", ROOT_USER) for _ in range(6)]
        refused = next(asked.result() for asked in as_completed(sent))
        assert (refused.status, refused.code) == (503, 202)
        assert ask(small.base, method="GET", path="/ping").status == 200
        assert sorted(asked.result().status for asked in sent) == [200] * 2 + [503] * 4


def test_clickhouse_connect_reads_and_writes(client: Client) -> None:
    client.command("CREATE OR REPLACE TABLE clients.t (a UInt64, s String) ENGINE = Memory")
    client.insert("clients.t", [[1, "x"], [2, "y"]], column_names=["a", "s"])
    client.raw_insert("clients.t", insert_block=b'{"a":3,"s":"z"}\n', fmt="JSONEachRow")
    sql = "SELECT a, s FROM clients.t WHERE a >= {least:UInt64} ORDER BY a"
    assert client.query(sql, parameters={"least": 2}).result_rows == [(2, "y"), (3, "z")]
    assert client.query("SELECT a FROM clients.t LIMIT 0").column_names == ("a",)
    assert client.query("SELECT {s:String}", parameters={"s": "x" * 200_000}).row_count == 1
    with client.query_row_block_stream("SELECT number FROM numbers(500000)") as blocks:
        assert sum(len(block) for block in blocks) == 500_000


def test_clickhouse_connect_writes_compressed_blocks_whole() -> None:
    running = shared_clickhouse()
    client = clickhouse_connect.get_client(host=running.host, port=running.port, compress="lz4")
    client.command("CREATE OR REPLACE TABLE clients.big (a UInt64, s String) ENGINE = Memory")
    rows = [[number, "x" * 500] for number in range(50_000)]  # several blocks, one frame each
    client.insert("clients.big", rows, column_names=["a", "s"])
    assert client.command("SELECT uniqExact(a) FROM clients.big") == 50_000
    client.close()


def test_clickhouse_connect_sees_errors(client: Client) -> None:
    with pytest.raises(DatabaseError) as unknown:
        client.query("SELECT * FROM clients.none")
    assert unknown.value.code == 60
    with (
        pytest.raises(StreamFailureError, match="throwIf"),
        client.query_row_block_stream(
            "SELECT throwIf(number = 900000) FROM numbers(1000000)", settings={"max_threads": 1}
        ) as blocks,
    ):
        for _ in blocks:
            pass


async def test_the_async_client_works_unchanged() -> None:
    pytest.importorskip("aiohttp")
    running = shared_clickhouse()
    client = await clickhouse_connect.get_async_client(host=running.host, port=running.port)
    assert (await client.query("SELECT 1")).result_rows == [(1,)]
    await client.close()
