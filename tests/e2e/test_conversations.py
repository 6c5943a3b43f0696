"""The demo's conversations through HTTP: every reply is its prompt's, every view of them agrees."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import create_async_engine

from infra.clients.gateway import Json, Received
from infra.demo.conversations import Conversation, load_conversations
from infra.simulator import reply_to
from shared.moment import parse
from shared.session.events import read_event
from shared.session.evolve import fold
from shared.tables.worker import LEDGER
from tests.e2e.api import Api
from tests.e2e.archive import Archive
from tests.e2e.conversing import converse
from tests.e2e.tenants import ACME
from tests.e2e.world import World

pytestmark = pytest.mark.e2e


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation as its stream told it, from the first event to the last `session.idled`."""

    session_id: str
    conversation: Conversation
    heard: list[Received]

    @property
    def turns(self) -> Iterator[tuple[str, str]]:
        """Turn id and prompt of each turn."""
        for number, text in enumerate(self.conversation.turns, start=1):
            yield f"turn-{number}", text


async def _talk(api: Api, conversation: Conversation) -> Talk:
    session_id = f"conversations-{conversation.conversation_id}"
    await api.open(session_id, title=conversation.title, metadata={"lang": conversation.lang})
    return Talk(session_id, conversation, await converse(api, session_id, conversation.turns))


@pytest.fixture(scope="module")
async def talks(api: Api) -> list[Talk]:
    """All conversations of the demo, played at once."""
    return list(await asyncio.gather(*(_talk(api, one) for one in load_conversations())))


async def test_every_reply_is_the_answer_to_its_own_prompt(api: Api, talks: list[Talk]) -> None:
    for talk in talks:
        for turn_id, text in talk.turns:
            page = await api.turn(talk.session_id, turn_id)
            assert (page["status"], page["error"]) == ("completed", None)
            assert page["reply"] == reply_to(text)


def test_a_stream_counts_from_one_without_gap_or_repeat(talks: list[Talk]) -> None:
    for talk in talks:
        assert [event.seq for event in talk.heard] == list(range(1, len(talk.heard) + 1))
        for event in talk.heard:
            body = event.body
            assert (body["seq"], body["type"]) == (event.seq, event.type)
            assert (body["tenant_id"], body["session_id"]) == (ACME, talk.session_id)
        assert len({event.body["event_id"] for event in talk.heard}) == len(talk.heard)


async def test_a_turn_page_sums_up_the_turns_events(api: Api, talks: list[Talk]) -> None:
    for talk in talks:
        for turn_id, _ in talk.turns:
            page = await api.turn(talk.session_id, turn_id)
            mine = [event.body for event in talk.heard if event.body["turn_id"] == turn_id]
            requests = [one["data"] for one in mine if one["type"] == "span.model_request_end"]
            for name, theirs in _TOKENS.items():
                spent = sum(request["model_usage"][theirs] for request in requests)
                assert page["usage"][name] == spent, (talk.session_id, turn_id, name)
            calls = {"agent.tool_use", "agent.mcp_tool_use", "agent.custom_tool_use"}
            assert page["tool_calls"] == sum(one["type"] in calls for one in mine)
            assert page["attempts"] == 1
            assert page["cost_usd"] >= 0
            assert page["submitted_at"] <= page["started_at"] <= page["ended_at"]
            assert {one["trace_id"] for one in mine} == {page["trace_id"]}
            assert len(page["trace_id"]) == 32


_TOKENS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cache_read_input_tokens",
    "cache_write_tokens": "cache_creation_input_tokens",
}


async def test_a_session_page_sums_up_its_turns(api: Api, talks: list[Talk]) -> None:
    for talk in talks:
        pages = [await api.turn(talk.session_id, turn_id) for turn_id, _ in talk.turns]
        session = await api.session(talk.session_id)
        assert (session["tenant_id"], session["user_id"]) == (ACME, "u1")
        assert (session["status"], session["open_turn"]) == ("idle", None)
        assert (session["last_seq"], session["pending_actions"]) == (talk.heard[-1].seq, [])
        for name in _TOKENS:
            assert session["usage"][name] == sum(page["usage"][name] for page in pages)
        spent = sum(page["cost_usd"] for page in pages)
        assert session["cost_usd"] == pytest.approx(spent)


async def test_the_ledger_is_the_session_pages_cost_and_the_providers_bill(
    world: World, talks: list[Talk]
) -> None:
    """To the micro-dollar in SQL and in the archive, and within a cent of each provider session's own figure."""
    api, archive, provider = world.api, world.archive, world.provider
    in_sql = await _charged_in_sql(world.stack.database_url)
    for talk in talks:
        await archive.complete(ACME, talk.session_id, len(talk.heard))
        session = await api.session(talk.session_id)
        rows = await archive.query(_LEDGER, tenant=ACME, session=talk.session_id)
        charged: dict[str, int] = dict(rows)
        assert round(session["cost_usd"] * 1e6) == sum(charged.values()) == in_sql[talk.session_id]
        assert list(charged) == await provider.of(ACME, talk.session_id)
        billed = {one: await provider.list_cost(one) for one in charged}
        for one, cents in billed.items():
            assert abs(charged[one] - cents * 10_000) <= 10_000, (talk.session_id, one)
        assert session["billed_usd"] == pytest.approx(sum(billed.values()) / 100, abs=0.011)


async def _charged_in_sql(url: str) -> dict[str, int]:
    """Micro-dollars by session, in the worker's own table."""
    engine = create_async_engine(url)
    its = select(LEDGER.c.session_id, func.sum(LEDGER.c.micro_usd))
    async with engine.connect() as connection:
        rows = await connection.execute(
            its.where(LEDGER.c.tenant_id == ACME).group_by(LEDGER.c.session_id)
        )
    await engine.dispose()
    return {session: int(micro_usd) for session, micro_usd in rows}


_LEDGER = (
    "SELECT provider_session_id, sum(micro_usd) FROM cost_facts"
    " WHERE tenant_id = {tenant:String} AND session_id = {session:String} GROUP BY 1"
)


async def test_the_state_at_a_seq_is_the_fold_of_the_events_up_to_it(
    api: Api, talks: list[Talk]
) -> None:
    for talk in talks:
        last = len(talk.heard)
        for seq in sorted({1, 2, 3, last // 3, last // 2, last - 1, last}):
            page = await api.session(talk.session_id, at_seq=seq)
            state = fold(read_event(event.raw) for event in talk.heard[:seq])
            pending = [action.tool_use_id for action in state.pending]
            assert page["last_seq"] == seq
            assert page["open_turn"] == state.open_turn
            assert [action["tool_use_id"] for action in page["pending_actions"]] == pending
            assert page["cost_usd"] == state.cost_usd
            assert page["usage"]["output_tokens"] == state.usage.output_tokens


async def test_the_state_while_a_question_waits_names_it(api: Api, talks: list[Talk]) -> None:
    asked = [(talk, e) for talk in talks for e in talk.heard if e.type == "turn.requires_action"]
    assert asked, "the demo holds turns that ask"
    for talk, event in asked:
        page = await api.session(talk.session_id, at_seq=event.seq)
        assert page["status"] == "requires_action"
        assert page["open_turn"] == event.body["turn_id"]
        assert page["pending_actions"] == event.body["data"]["pending_actions"]


async def test_json_pages_hold_what_the_stream_said_byte_for_byte(
    api: Api, talks: list[Talk]
) -> None:
    for talk in talks:
        for limit in (7, 1000):
            pages = await api.raw_events(talk.session_id, limit=limit)
            assert pages == [event.raw for event in talk.heard]


async def test_a_replay_is_the_stream_again_and_ends(api: Api, talks: list[Talk]) -> None:
    for talk in talks:
        async with (
            asyncio.timeout(30),
            api.stream(f"/v1/sessions/{talk.session_id}/replay?speed=0") as events,
        ):
            *said, end = [event async for event in events]
        assert end.type == "end"
        assert said == talk.heard


async def test_part_of_a_replay_is_that_part(api: Api, talks: list[Talk]) -> None:
    talk = talks[0]
    path = f"/v1/sessions/{talk.session_id}/replay?speed=0&from_seq=3&to_seq=5"
    async with asyncio.timeout(30), api.stream(path) as events:
        assert [event.seq async for event in events] == [3, 4, 5, None]


async def test_a_replay_takes_the_recorded_time_divided_by_its_speed(
    api: Api, talks: list[Talk]
) -> None:
    talk = max(talks, key=_length_s)
    length = _length_s(talk)
    speed = length / 0.5
    began = asyncio.get_running_loop().time()
    path = f"/v1/sessions/{talk.session_id}/replay?speed={speed:.6f}"
    async with asyncio.timeout(30), api.stream(path) as events:
        seqs = [event.seq async for event in events]
    took = asyncio.get_running_loop().time() - began
    assert seqs == [*range(1, len(talk.heard) + 1), None]
    assert 0.4 <= took < 10


def _length_s(talk: Talk) -> float:
    first, last = (read_event(talk.heard[index].raw).at for index in (0, -1))
    return (parse(last) - parse(first)).total_seconds()


async def test_the_archive_holds_the_same_events(
    api: Api, archive: Archive, talks: list[Talk]
) -> None:
    for talk in talks:
        rows = await archive.complete(ACME, talk.session_id, len(talk.heard))
        for event, row in zip(talk.heard, rows, strict=True):
            body: Json = event.body
            assert (row.seq, row.type, row.event_id) == (event.seq, event.type, body["event_id"])
            assert row.turn_id == (body["turn_id"] or "")
            assert json.loads(row.data) == body["data"]
