"""Sessions on the Messages API, beside managed ones, in one stack: the same calls, the same log, the same rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
from sqlalchemy import text as sql
from sqlalchemy.ext.asyncio import create_async_engine

from infra.clients.gateway import Json
from infra.simulator import reply_to
from tests.e2e import ledger_tool
from tests.e2e.api import Api
from tests.e2e.archive import Archive
from tests.e2e.tenants import ACME, KEYS
from tests.e2e.waiting import eventually
from tests.e2e.world import WORKER
from tests.stack import LocalStack, running_stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
AGENT = """---
runtime: messages
model: claude-sonnet-5-5
tools: [lookup]
---
You look things up.
"""


# Twenty conversations, four of each.
SCRIPTS = 4 * (
    "reply",
    "custom_tool",
    "custom_tool rounds=2 calls=2",
    "refusal",
    "error_retrying errors=1 times=1",
)


class Place(NamedTuple):
    """A stack whose worker has the agent `helper` and the tool `lookup`."""

    stack: LocalStack
    api: Api
    archive: Archive
    folder: Path

    async def asked(self, words: str) -> list[Json]:
        """The requests that the model saw, of conversations that say these words."""
        async with httpx2.AsyncClient() as http:
            found = (await http.get(f"{self.stack.simulator}/_sim/messages")).json()["data"]
        return [
            one
            for one in found
            if one["path"] == "/v1/messages" and words in str(one["request"]["messages"])
        ]

    async def open(self, session: str) -> None:
        await self.api.open(session, agent="helper")


@pytest.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    root = tmp_path_factory.mktemp("messages")
    (root / "agents").mkdir()
    (root / "agents" / "helper.md").write_text(AGENT, encoding="utf-8")
    told = {
        "TURNSTILE_API_KEYS": f"{KEYS[ACME]}:{ACME}",
        "TURNSTILE_MESSAGES_AGENTS": str(root / "agents"),
        "TURNSTILE_TOOLS": f"{ledger_tool.__name__}:lookup",
        ledger_tool.FOLDER: str(root),
    }
    async with running_stack(**told) as stack:
        api = Api(stack.gateway, KEYS[ACME])
        archive = Archive(stack.clickhouse_url)
        yield Place(stack, api, archive, root)
        await api.http.aclose()


async def types(place: Place, session: str) -> list[str]:
    """The types of a session's events, as they are in ClickHouse and over HTTP."""
    page = await place.api.settled(session)
    rows = await place.archive.complete(ACME, session, page["last_seq"])
    events = await place.api.events(session)
    assert [event["type"] for event in events] == [row.type for row in rows]
    return [row.type for row in rows]


async def test_a_conversation_is_answered_recorded_and_paid_for(place: Place) -> None:
    await place.open("talk")
    for number in range(2):
        text = f"[[script: reply]] talk {number}"
        await place.api.say("talk", f"t{number}", text)
        page = await place.api.turn_in("talk", f"t{number}", "completed")
        assert page["reply"] == reply_to(text)
    assert (await place.api.session("talk"))["cost_usd"] > 0
    told = await types(place, "talk")
    assert told.count("agent.message") == 2
    assert told.count("session.charged") >= 2
    _, second = await place.asked("talk 0")
    assert len(second["request"]["messages"]) == 3


async def test_both_runtimes_tell_a_turn_alike(place: Place) -> None:
    await place.open("ours")
    await place.api.open("theirs")
    for session in ("ours", "theirs"):
        await place.api.say(session, "t1", "[[script: reply]] alike")
        await place.api.turn_in(session, "t1", "completed")
    ours, theirs = set(await types(place, "ours")), set(await types(place, "theirs"))
    # Of a managed session besides: its threads, and its account.
    only_theirs = {kind for kind in theirs - ours if not kind.startswith("session.")}
    assert only_theirs <= {"agent.thinking"}
    assert ours - theirs <= {"agent.thinking"}


async def test_twenty_conversations_come_out_alike_on_both_runtimes(place: Place) -> None:
    async def conversation(session: str, script: str, **more: Any) -> list[Any]:
        (place.folder / f"go-{session}").touch()
        await place.api.open(session, **more)
        pages = []
        for number in range(2):
            await place.api.say(session, f"t{number}", f"[[script: {script}]] both {number}")
            pages.append(await place.api.ended(session, f"t{number}", timeout=120))
        last = (await place.api.settled(session))["last_seq"]
        rows = await place.archive.complete(ACME, session, last)
        turns = [row for row in rows if row.type.startswith("turn.")]
        # What a turn says, whose it is and when; of each, all that is there.
        alike = [
            (sorted(page), page["status"], page["reply"], page["tool_calls"]) for page in pages
        ]
        # Files have no version.
        fields = [sorted(row.body.keys() - {"agent_version"}) for row in turns]
        return [alike, [(row.turn_id, row.type) for row in turns], fields]

    async def all_of(runtime: str, **more: Any) -> list[list[Any]]:
        named = ((f"{runtime}-{n}", script) for n, script in enumerate(SCRIPTS))
        return await asyncio.gather(*(conversation(*one, **more) for one in named))

    messages, managed = await all_of("messages", agent="helper"), await all_of("managed")
    for script, ours, theirs in zip(SCRIPTS, messages, managed, strict=True):
        assert ours == theirs, script


async def test_the_workers_own_tool_answers_the_models_call(place: Place) -> None:
    (place.folder / "go-tool").touch()
    await place.open("tool")
    text = "[[script: custom_tool calls=2]] look it up"
    await place.api.say("tool", "t1", text)
    page = await place.api.turn_in("tool", "t1", "completed")
    assert (page["reply"], page["tool_calls"]) == (reply_to(text), 2)
    *_, last = await place.asked("look it up")
    results = last["request"]["messages"][-1]["content"]
    given = sorted(result["content"][0]["text"] for result in results)
    assert given == ["found item 0", "found item 1"]


async def test_a_worker_that_dies_in_the_middle_of_an_answer_records_one(place: Place) -> None:
    await place.open("killed")
    text = "[[script: reply pace=30]] killed " + "slowly " * 10

    async def answering() -> list[Json] | None:
        return await place.asked("killed")

    await place.api.say("killed", "t1", text)
    await eventually(answering, "an answer that is being written")
    await place.stack.back(WORKER, place.stack.kill(WORKER))
    page = await place.api.turn_in("killed", "t1", "completed", timeout=120)
    assert page["reply"] == reply_to(text)
    told = await types(place, "killed")
    assert told.count("agent.message") == 1
    assert told.count("user.message") == 1
    assert len(await place.asked("killed")) == 2
    rows = await place.archive.rows(ACME, "killed")
    ends = [row.body for row in rows if row.type == "span.model_request_end"]
    assert [_is_error(end) for end in ends] == [True, False]


def _is_error(end: dict[str, Any]) -> bool:
    data = end.get("data", end)
    return bool(data["is_error"])


async def test_an_interrupt_ends_the_answer(place: Place) -> None:
    await place.open("stopped")
    await place.api.say("stopped", "t1", "[[script: reply pace=40]] stopped " + "slowly " * 20)

    async def answering() -> list[Json] | None:
        return await place.asked("stopped")

    await eventually(answering, "an answer that is being written")
    await place.api.post("/v1/sessions/stopped/interrupt", {})
    assert (await place.api.ended("stopped", "t1"))["status"] == "interrupted"
    await place.api.say("stopped", "t2", "[[script: reply]] go on")
    assert (await place.api.ended("stopped", "t2"))["status"] == "completed"


async def test_an_erased_conversation_leaves_nothing_behind(place: Place) -> None:
    await place.open("erased")
    await place.api.say("erased", "t1", "[[script: reply]] forget this")
    await place.api.turn_in("erased", "t1", "completed")
    assert await _entries(place, "erased") > 5
    assert (await place.api.http.delete("/v1/sessions/erased")).status_code == 202

    async def is_gone() -> bool:
        return await _entries(place, "erased") == 0

    await eventually(is_gone, "no entry of the session")


async def _entries(place: Place, session: str) -> int:
    engine = create_async_engine(place.stack.database_url)
    try:
        async with engine.connect() as connection:
            query = "SELECT count(*) FROM worker_conversations WHERE session_id = :session"
            return int((await connection.execute(sql(query), {"session": session})).scalar() or 0)
    finally:
        await engine.dispose()


BAD_DAYS: list[Json] = [
    {"match": {"path": "/v1/messages$", "every": 7}, "fault": {"kind": "reset", "after": 4}},
    {"match": {"path": "/v1/messages$", "every": 9}, "fault": {"kind": "respond", "status": 529}},
    {"match": {"path": "/v1/messages$", "every": 11}, "fault": {"kind": "error_event", "after": 5}},
    {"match": {"path": "/v1/messages$", "every": 13}, "fault": {"kind": "cut", "after": 6}},
    {"match": {"path": "/v1/messages$", "every": 17}, "fault": {"kind": "land_then_drop"}},
]


async def storm(place: Place, *, sessions: int, turns: int, kills: int) -> None:
    """So many conversations of so many turns each, all posted at once, while requests fail and the worker is
    killed. Every turn ends once and completed, in its place, with the answer to it; the model is told each once."""
    names = [f"storm-{sessions}-{n}" for n in range(sessions)]
    said = {name: [f"[[script: reply]] {name} turn {t}" for t in range(turns)] for name in names}
    async with httpx2.AsyncClient() as http:
        await http.post(f"{place.stack.simulator}/_sim/faults", json={"rules": BAD_DAYS})
    for name in names:
        await place.open(name)
    for turn in range(turns):
        await asyncio.gather(*(place.api.say(name, f"t{turn}", said[name][turn]) for name in names))
    for kill in range(kills):
        await place.api.ended(names[0], f"t{(kill + 1) * turns // (kills + 1)}", timeout=240)
        await place.stack.back(WORKER, place.stack.kill(WORKER))
    for name in names:
        pages = [await place.api.ended(name, f"t{t}", timeout=240) for t in range(turns)]
        assert [page["reply"] for page in pages] == [reply_to(text) for text in said[name]]
        told = await types(place, name)
        counts = {kind: told.count(kind) for kind in ("agent.message", "turn.completed")}
        assert counts == {"agent.message": turns, "turn.completed": turns}
    async with httpx2.AsyncClient() as http:
        await http.delete(f"{place.stack.simulator}/_sim/faults")
    for name in names:
        last = (await place.asked(f"{name} turn {turns - 1}"))[-1]["request"]["messages"]
        users = [m["content"] for m in last if m["role"] == "user"]
        assert [[block["text"] for block in content] for content in users] == [
            [text] for text in said[name]
        ]


async def test_a_storm_loses_no_turn_and_doubles_none(place: Place) -> None:
    await storm(place, sessions=12, turns=10, kills=3)


async def test_turns_in_line_keep_their_order_under_faults(place: Place) -> None:
    await place.open("line")
    rules = [
        {"match": {"path": "/v1/messages$", "every": 3}, "fault": fault}
        for fault in ({"kind": "reset", "after": 4}, {"kind": "respond", "status": 529})
    ]
    async with httpx2.AsyncClient() as http:
        await http.post(f"{place.stack.simulator}/_sim/faults", json={"rules": rules})
        texts = [f"[[script: reply]] line {number}" for number in range(8)]
        await asyncio.gather(
            *(place.api.say("line", f"t{n}", text) for n, text in enumerate(texts))
        )
        pages = [await place.api.ended("line", f"t{n}", timeout=120) for n in range(8)]
        await http.delete(f"{place.stack.simulator}/_sim/faults")
    assert [page["reply"] for page in pages] == [reply_to(text) for text in texts]
    assert (await types(place, "line")).count("agent.message") == 8
