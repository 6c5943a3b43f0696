"""Every query of docs/analysts.md, as the analyst, answers what a plain program computes from the same events."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest

from tests.clickhouse_rows import SETTINGS, event
from tests.clickhouse_server import Running, ask
from tests.integration.analyst_log import Log
from tests.integration.analyst_server import (
    NOW,
    acme_log,
    analyst_server,
    answer,
    asked_of,
    first_turn,
    near,
)
from tests.integration.analyst_truths import TRUTHS
from tests.synthetic.questions import questions

pytestmark = pytest.mark.integration

DOCUMENT = (Path(__file__).parents[2] / "docs" / "analysts.md").read_text()
QUESTIONS = questions()
# Tables and views, each with the heading or the line that describes it.
OBJECTS = (
    "SELECT name FROM system.tables WHERE database = 'turnstile' AND engine != 'MaterializedView'"
)


@pytest.fixture(scope="module")
def log() -> Log:
    return acme_log()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, log: Log) -> Iterator[Running]:
    with analyst_server(tmp_path_factory.mktemp("analysts"), log) as running:
        yield running


def test_there_are_twenty_questions_and_each_has_its_truth() -> None:
    assert len(QUESTIONS) == 20
    shown = {
        "One conversation, read back",
        "Where the time of one turn went (spans of its trace, longest first)",
    }
    for words, _ in QUESTIONS:
        assert words in shown or sum(words.startswith(start) for start in TRUTHS) == 1, words


@pytest.mark.parametrize(("words", "sql"), QUESTIONS, ids=[words[:30] for words, _ in QUESTIONS])
def test_a_question_has_its_answer(server: Running, log: Log, words: str, sql: str) -> None:
    found = answer(server, asked_of(log, sql))
    for start, truth in TRUTHS.items():
        if words.startswith(start):
            expected = truth(log)
            assert expected or "gap" in words
            wrong = [
                pair for pair in zip(found, expected, strict=False) if not near(*map(list, pair))
            ]
            assert not wrong, json.dumps(wrong[:3])
            assert len(found) == len(expected)


def test_a_conversation_reads_back(server: Running, log: Log) -> None:
    [sql] = [sql for words, sql in QUESTIONS if words.startswith("One conversation")]
    session = first_turn(log)["session_id"]
    expected = [
        [e["seq"], e["type"], "\n".join(block["text"] for block in e["data"]["content"])]
        for e in log.events
        if e["session_id"] == session and e["type"] in ("user.message", "agent.message")
    ]
    found = answer(server, asked_of(log, sql))
    assert [[seq, kind, text] for seq, _, kind, text in found] == expected != []


def test_the_spans_of_a_turn_are_found(server: Running, log: Log) -> None:
    [sql] = [sql for words, sql in QUESTIONS if words.startswith("Where the time")]
    found = [(name, took) for _, name, _, took, _ in answer(server, asked_of(log, sql))]
    assert found == [("invoke_agent", 9), ("POST", 1.5)]


def test_a_gap_is_found(server: Running, log: Log) -> None:
    """The rows stay; the other tests ask for what is acme's, or for all days but these."""
    sql = QUESTIONS[-1][1].replace("'acme'", "'gappy'")
    insert = {"query": "INSERT INTO turnstile.session_events FORMAT JSONEachRow"}
    rows = [event(n, "session.usage", tenant_id="gappy", session_id="ses_g") for n in (1, 2, 4, 7)]
    assert ask(server.base, b"".join(rows), insert | SETTINGS).status == 200
    assert answer(server, asked_of(log, sql)) == [["gappy", "ses_g", 3]]


def test_the_python_of_the_document_runs(server: Running, log: Log) -> None:
    code = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)[0]
    code = code.replace("8123", str(server.port)).split("frame =")[0]
    names: dict[str, Any] = {}
    exec(code, names)
    expected: dict[str, int] = {}
    for turn in log.turns:
        expected[turn["status"]] = expected.get(turn["status"], 0) + 1
    assert dict(names["rows"]) == expected


def test_every_column_of_every_table_is_in_the_document(server: Running) -> None:
    client = clickhouse_connect.get_client(
        host=server.host, port=server.port, username="analyst", database="turnstile"
    )
    for (name,) in client.query(OBJECTS).result_rows:
        columns = [row[:2] for row in client.query(f"DESCRIBE {name}").result_rows]
        described = _described(name)
        for column, kind in columns:
            assert f"`{column}`" in described, f"{name}.{column}"
            if f"### `{name}`" in DOCUMENT:
                [line] = [
                    row for row in described.splitlines() if f"`{column}`" in row.split("|")[1]
                ]
                assert line.split("|")[2].strip() in (_plain(kind), "arrays"), (
                    f"{name}.{column}: {kind}"
                )
    client.close()


def _described(name: str) -> str:
    """What the document says of a table: its chapter; its line, and the chapter of the view before it."""
    if f"### `{name}`" in DOCUMENT:
        chapter = DOCUMENT.split(f"### `{name}`")[1].split("\n#")[0]
        return "\n".join(line for line in chapter.splitlines() if line.startswith("| `"))
    behind = DOCUMENT.split("### Behind the views")[1].splitlines()
    [line] = [line for line in behind if line.startswith(f"| `{name}` |")]
    view = re.search(r"behind `(\w+)`", line)
    return line + (_described(view.group(1)) if view else "")


def _plain(kind: str) -> str:
    kind = re.sub(r"LowCardinality\((\w+)\)", r"\1", kind)
    return kind.replace(", 'UTC'", "")


def test_the_limits_are_those_of_the_document(server: Running) -> None:
    assert "1,000,000 rows" in DOCUMENT
    sql = "SELECT number FROM numbers(3000000)"
    many = ask(server.base, sql, user="analyst", wait_end_of_query=1)
    assert many.code == 396
    assert ask(server.base, "SELECT 1", user="analyst", max_threads=1).code == 164


def test_the_plan_spans_more_than_a_week_and_a_month(log: Log) -> None:
    days = {event["at"][:10] for event in log.events}
    assert str((NOW - timedelta(days=8)).date()) > min(days)
    assert len({day[:7] for day in days}) == 2
