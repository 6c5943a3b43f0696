"""Every query of docs/analysts.md runs, as the analyst, on rows of a turn."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import clickhouse_connect
import pytest

from infra.clickhouse.migrate import migrate
from tests.clickhouse_rows import SETTINGS, event, turn
from tests.clickhouse_server import Running, ask, start_clickhouse, stop_clickhouse

pytestmark = pytest.mark.integration

DOCUMENT = (Path(__file__).parents[2] / "docs" / "analysts.md").read_text()
QUERIES = re.findall(r"^(\S[^\n]*):\n\n```sql\n(.*?)```", DOCUMENT, re.DOTALL | re.MULTILINE)
TRACE = "a" * 32
USAGE = '{"id": "sevt_3", "model_usage": {"input_tokens": 10, "cache_read_input_tokens": 30}}'
ENDED = {
    "submitted_at": "2026-11-21T10:00:00Z",
    "first_token_at": "2026-11-21T10:00:01Z",
    "ended_at": "2026-11-21T10:00:02Z",
}
ROWS = [
    event(1, "user.message", '{"id": "sevt_1", "content": [{"type": "text", "text": "Hello?"}]}'),
    event(2, "agent.tool_use", '{"id": "sevt_2", "name": "search"}'),
    event(3, "agent.tool_result", '{"id": "sevt_5", "tool_use_id": "sevt_2", "is_error": true}'),
    event(4, "span.model_request_end", USAGE, model="claude"),
    event(5, "agent.message", '{"id": "sevt_4", "content": [{"type": "text", "text": "Yes."}]}'),
    event(6, "turn.completed", turn("completed", 0.25, **ENDED), trace_id=TRACE),
    event(7, "turn.failed", turn("failed", 0.5, error={"type": "lost"}), turn_id="t2"),
    event(9, "session.idled", at="2026-11-22T10:00:00Z"),
]
EXPECTED = {
    "Turns of the last week": b"completed\t1\t0.25",
    "How long users wait": b"[1,1,1]\t[2,2,2]\t0.25",
    "Users who cost most": b"u1\t2\t0.75",
    "Tools": b"search\t1\t1",
    "How much of the input": b"claude\t10\t30\t0.75",
    "What went wrong": b"failed\tlost\t\t1\t1",
    "One conversation": b"Hello?",
    "Where the time": b"gateway\tPOST",
    "Sessions with a gap": b"acme\tses_1\t1",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server whose database has the name of the document."""
    running = start_clickhouse(tmp_path_factory.mktemp("analysts"))
    migrate(running.url, say=lambda step: None)
    insert = {"query": "INSERT INTO turnstile.session_events FORMAT JSONEachRow"}
    assert ask(running.base, b"".join(ROWS), insert | SETTINGS).status == 200
    span = "INSERT INTO turnstile.otel_traces (Timestamp, TraceId, SpanName, ServiceName, Duration)"
    values = f" VALUES (now(), '{TRACE}', 'POST', 'gateway', 1500000)"
    assert ask(running.base, span + values).status == 200
    yield running
    stop_clickhouse(running)


def test_the_document_has_queries() -> None:
    assert len(QUERIES) >= 8
    for title in EXPECTED:
        assert sum(words.startswith(title) for words, _ in QUERIES) == 1, title


@pytest.mark.parametrize(("words", "sql"), QUERIES, ids=[words[:30] for words, _ in QUERIES])
def test_a_query_of_the_document_runs(server: Running, words: str, sql: str) -> None:
    # The rows are of a fixed day: "the last week" is counted from the day after it.
    sql = sql.replace("now()", "toDateTime('2026-11-22 00:00:00')")
    answer = ask(server.base, sql, user="analyst")
    assert answer.status == 200, answer.body
    expected = next(value for title, value in EXPECTED.items() if words.startswith(title))
    assert expected in answer.body


def test_the_python_of_the_document_runs(server: Running) -> None:
    code = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)[0]
    code = code.replace("8123", str(server.port)).split("frame =")[0]
    names: dict[str, object] = {}
    exec(code, names)
    assert sorted(names["rows"]) == [("completed", 1), ("failed", 1)]  # type: ignore[call-overload]
    client = clickhouse_connect.get_client(
        host=server.host, port=server.port, username="analyst", database="turnstile"
    )
    assert client.command("SELECT count() FROM events") == len(ROWS)
    client.close()


def test_every_column_is_in_the_document(server: Running) -> None:
    for view in ("events", "turn_facts"):
        columns = ask(server.base, f"DESCRIBE turnstile.{view}", user="analyst").body.decode()
        table = DOCUMENT.split(f"### `{view}`")[1].split("###")[0]
        for line in columns.splitlines():
            assert f"`{line.split()[0]}`" in table, line


def test_the_limits_are_those_of_the_document(server: Running) -> None:
    assert "1,000,000 rows" in DOCUMENT
    sql = "SELECT number FROM numbers(3000000)"
    many = ask(server.base, sql, user="analyst", wait_end_of_query=1)
    assert many.code == 396
    assert ask(server.base, "SELECT 1", user="analyst", max_threads=1).code == 164
