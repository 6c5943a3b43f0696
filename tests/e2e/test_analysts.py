"""Every query of docs/analysts.md, asked as the document says: clickhouse-connect and plain HTTP."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
import httpx2
import pytest

from infra.clients.gateway import Json
from infra.simulator import reply_to
from tests.e2e.api import Api
from tests.e2e.archive import Archive
from tests.e2e.conversing import converse
from tests.e2e.examples import blocks, filled, run
from tests.e2e.tenants import ACME
from tests.stack import LocalStack

pytestmark = pytest.mark.e2e

# The document's own names, so that its queries need no change.
SESSION, TENANT = "ses_1", "acme"
TEXTS = [
    "Look through the logs. [[script: tools rounds=3 calls=2]]",
    "Where is parcel 4711? [[script: custom_tool]]",
    "Do what you must not. [[script: refusal]]",
    "Thank you.",
]
QUERIES = blocks("docs/analysts.md", "sql")
TITLES = [sql.split("\n")[0] for sql in QUERIES]


@pytest.fixture(scope="module")
async def pages(api: Api, archive: Archive) -> list[Json]:
    """The turns of a session with a bit of everything, all of it archived; their pages."""
    assert TENANT == ACME
    await api.open(SESSION)
    heard = await converse(api, SESSION, TEXTS)
    await archive.complete(TENANT, SESSION, heard[-1].seq or 0)
    return [await api.turn(SESSION, f"turn-{number + 1}") for number in range(len(TEXTS))]


def _connect(stack: LocalStack) -> Any:
    address = urlsplit(stack.clickhouse_url)
    return clickhouse_connect.get_client(
        host=address.hostname, port=address.port, username="analyst", database="turnstile"
    )


async def _asked(stack: LocalStack, sql: str) -> list[Json]:
    """The rows by clickhouse-connect, each a dict."""

    def ask() -> list[Json]:
        client = _connect(stack)
        try:
            return list(client.query(sql).named_results())
        finally:
            client.close()

    return await asyncio.to_thread(ask)


async def _posted(stack: LocalStack, sql: str) -> list[Json]:
    """The rows by plain HTTP, each a dict of JSON values."""
    address = urlsplit(stack.clickhouse_url)
    async with httpx2.AsyncClient(auth=("analyst", ""), timeout=30) as http:
        answer = await http.post(
            f"http://{address.hostname}:{address.port}/",
            params={"database": "turnstile", "default_format": "JSONEachRow"},
            content=sql,
        )
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def test_the_document_has_its_queries() -> None:
    assert len(QUERIES) == 20


@pytest.mark.parametrize("sql", QUERIES, ids=[f"{n}" for n in range(len(QUERIES))])
async def test_a_query_of_the_document_is_answered_both_ways(
    local_stack: LocalStack, pages: list[Json], sql: str
) -> None:
    by_client, by_http = await _asked(local_stack, sql), await _posted(local_stack, sql)
    # Nothing went missing in this session, was tried again, or got no result.
    found = not any(words in sql for words in ("missing", "turn.retrying", "NOT answered"))
    assert (bool(by_client), bool(by_http)) == (found, found)
    assert [list(row) for row in by_client[:1]] == [list(row) for row in by_http[:1]]


async def test_the_turns_by_outcome_are_the_turns_there_were(
    local_stack: LocalStack, api: Api, pages: list[Json]
) -> None:
    sql = f"SELECT * FROM turn_facts WHERE session_id = '{SESSION}' ORDER BY submitted_at"
    facts = await _asked(local_stack, sql)
    assert [fact["turn_id"] for fact in facts] == [page["turn_id"] for page in pages]
    for fact, page in zip(facts, pages, strict=True):
        assert (fact["status"], fact["attempts"]) == (page["status"], page["attempts"])
        assert (fact["trace_id"], fact["tool_calls"]) == (page["trace_id"], page["tool_calls"])
        assert float(fact["cost_usd"]) == pytest.approx(page["cost_usd"])
        assert {name: fact[name] for name in page["usage"]} == page["usage"]
        assert 0 <= fact["queue_seconds"] <= fact["total_seconds"]
    assert [page["status"] for page in pages] == ["completed", "completed", "refused", "completed"]


async def test_a_conversation_reads_back_as_it_was_said(
    local_stack: LocalStack, pages: list[Json]
) -> None:
    [sql] = [sql for sql in QUERIES if "arrayStringConcat" in sql]
    said = [row["text"] for row in await _asked(local_stack, sql)]
    prompts = [text for text in said if text in TEXTS]
    assert prompts == TEXTS
    assert [text for text in said if text == reply_to(TEXTS[0])] == [reply_to(TEXTS[0])]
    assert said[-1] == reply_to(TEXTS[-1])


async def test_the_time_of_a_turn_is_in_its_spans(
    local_stack: LocalStack, archive: Archive, pages: list[Json]
) -> None:
    [sql] = [sql for sql in QUERIES if "otel_traces" in sql]
    names = {row["SpanName"] for row in await _asked(local_stack, sql)}
    assert {"invoke_agent", "POST /v1/sessions/{session_id}/turns"} <= names


async def test_the_documents_python_runs(local_stack: LocalStack, pages: list[Json]) -> None:
    [code] = blocks("docs/analysts.md", "python")
    port = urlsplit(local_stack.clickhouse_url).port
    code = filled(code.replace("frame = ", "# frame = "), {"port=8123": f"port={port}"})
    scope: Json = {}
    await asyncio.to_thread(exec, code, scope)
    rows = dict(scope["rows"])
    scope["client"].close()
    assert rows["completed"] >= 3
    assert rows["refused"] >= 1


async def test_the_documents_curl_runs(local_stack: LocalStack, pages: list[Json]) -> None:
    [shown] = blocks("docs/analysts.md", "console")
    own = f"127.0.0.1:{urlsplit(local_stack.clickhouse_url).port}"
    commands = filled(shown, {"127.0.0.1:8123": own}).replace("\\\n", " ").splitlines()
    table, lines = [await run("sh", "-c", command.removeprefix("$ ")) for command in commands]
    assert "refused" in table
    events = [json.loads(line) for line in lines.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))


async def test_an_analyst_may_only_read(local_stack: LocalStack, pages: list[Json]) -> None:
    for sql in ("INSERT INTO turns (tenant_id) VALUES ('x')", "DROP TABLE turns"):
        with pytest.raises(AssertionError, match=r"164|497|READONLY|ACCESS_DENIED"):
            await _posted(local_stack, sql)
