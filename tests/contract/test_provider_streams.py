"""The real driver on bad days of streams and lists: every event comes exactly once, in order, byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from services.agent_worker.ports import ProviderFailure, ProviderFeed
from services.agent_worker.provider import stream
from shared.session.provider import text_of
from tests.contract.provider_talk import DEADLINE_S, Talk, stop_reason
from tests.contract.provider_worlds import LIST, STREAM, WireWorld, wire_world

pytestmark = pytest.mark.contract
BREAKS = ["cut", "reset", "truncate", "silent", "error_event", "bad_json"]
CHILD_LIST = {"method": "GET", "path": "/threads/[^/]+/events$"}
CHILD_STREAM = {"method": "GET", "path": "/threads/[^/]+/stream$"}


@pytest.fixture(scope="module")
async def simulator() -> AsyncIterator[WireWorld]:
    async with wire_world() as world:
        yield world


@pytest.fixture
async def world(simulator: WireWorld) -> AsyncIterator[WireWorld]:
    yield simulator
    await simulator.heal()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "TIMEOUT", httpx2.Timeout(5.0, read=0.25))
    monkeypatch.setattr(stream, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(stream, "LONGEST_WAIT", 0.05)


async def a_turn(world: WireWorld, text: str, *rules: Any) -> Talk:
    """A whole turn under faults, checked."""
    talk = Talk(world)
    await talk.open()
    await world.rules(*rules)
    async with talk.watching(fresh=True):
        idle = await talk.turn(text)
    assert stop_reason(idle) == "end_turn"
    assert talk.state.turn is None
    await talk.check_all_heard_once()
    assert await talk.sent() == [text]
    return talk


def broken(kind: str, after: int, times: int = 2, where: Any = STREAM) -> Any:
    return {"match": {**where, "times": times}, "fault": {"kind": kind, "after": after}}


@pytest.mark.parametrize("after", [0, 1, 2, 3, 5, 8])
@pytest.mark.parametrize("kind", [*BREAKS, "duplicate"])
async def test_a_stream_that_breaks_loses_and_repeats_nothing(
    world: WireWorld, kind: str, after: int
) -> None:
    await a_turn(world, f"{kind} {after} [[script: tools rounds=2]]", broken(kind, after))


@pytest.mark.parametrize("after", range(8, 20))
async def test_a_stream_opened_in_the_middle_of_a_message_shows_nothing_of_its_rest(
    world: WireWorld, after: int
) -> None:
    talk = await a_turn(world, f"slowly {after} [[script: reply pace=1]]", broken("cut", after, 1))
    shown: dict[str, str] = {}
    for preview in talk.previews:
        if preview["type"] == "event_start":
            assert preview["event"]["id"] not in shown
            shown[preview["event"]["id"]] = ""
        else:
            shown[preview["event_id"]] += preview["delta"]["content"]["text"]
    whole = {event.id: text_of(event.raw) or "" for event in talk.heard}
    assert all(_flat(whole[id]).startswith(_flat(text)) for id, text in shown.items())


def _flat(text: str) -> str:
    """Without what may be a line's end or a block's."""
    return text.replace("\n", "")


@pytest.mark.parametrize("kind", [*BREAKS, "duplicate"])
async def test_streams_of_children_may_break_too(world: WireWorld, kind: str) -> None:
    for after in (0, 2, 4):
        text = f"{kind} {after} [[script: threads children=2]]"
        await a_turn(world, text, broken(kind, after, times=3, where=CHILD_STREAM))


@pytest.mark.parametrize("kind", BREAKS)
async def test_streams_that_all_break_after_a_few_events_lose_nothing(
    world: WireWorld, kind: str
) -> None:
    text = f"{kind} always [[script: long events=80]]"
    await a_turn(world, text, broken(kind, after=4, times=1_000))


@pytest.mark.parametrize("kind", ["cut", "reset", "silent"])
async def test_the_end_of_a_turn_is_not_missed_when_the_stream_never_shows_it(
    world: WireWorld, kind: str
) -> None:
    """The stream breaks in mid-turn, and the turn ends before it is opened again."""
    talk = Talk(world)
    await talk.open()
    await world.rules(broken(kind, after=6, times=1))
    async with talk.watching(fresh=True):
        await talk.send("hold on [[script: reply hold=1]]")
        await talk.hear("session.status_running")
        await world.release(talk.session)
        assert stop_reason(await talk.hear()) == "end_turn"
    await talk.check_all_heard_once()


@pytest.mark.parametrize("kind", ["cut", "truncate", "error_event"])
async def test_a_wait_for_a_person_outlives_its_stream(world: WireWorld, kind: str) -> None:
    talk = Talk(world)
    await talk.open()
    await world.rules(broken(kind, after=5, times=6))
    async with talk.watching(fresh=True):
        await talk.turn("may I? [[script: confirm]]")
        assert talk.state.open_turn == "t1"
        await talk.confirm(talk.state.pending[0].tool_use_id)
        while talk.state.turn is not None:
            await talk.hear()
    await talk.check_all_heard_once()


@pytest.mark.parametrize("kind", ["cut", "duplicate"])
async def test_late_events_come_over_a_broken_stream(world: WireWorld, kind: str) -> None:
    talk = Talk(world)
    await talk.open()
    await world.rules(broken(kind, after=3, times=4))
    async with talk.watching(fresh=True):
        await talk.send("and one more [[script: reply late=1]]")
        await talk.hear("session.usage", 2)
    await talk.check_all_heard_once()


@pytest.mark.parametrize("fault", ["drop", "respond", "delay"])
@pytest.mark.parametrize("where", [STREAM, LIST, CHILD_LIST], ids=["streams", "list", "child_list"])
async def test_streams_and_lists_that_fail_at_first_lose_nothing(
    world: WireWorld, where: Any, fault: str
) -> None:
    away = {"match": {**where, "times": 2}, "fault": {"kind": fault, "status": 529, "seconds": 0.1}}
    text = f"later {fault} [[script: threads]]"
    await a_turn(world, text, away, broken("cut", after=3, times=2))


async def test_swapped_neighbours_are_recorded_in_the_lists_order(world: WireWorld) -> None:
    await a_turn(world, "swap [[script: tools rounds=6 swap=1]]")


@pytest.mark.parametrize("kind", ["cut", "reset", "truncate", "error_event"])
async def test_a_stream_that_breaks_between_swapped_neighbours_changes_nothing_of_that(
    world: WireWorld, kind: str
) -> None:
    """Wherever it breaks: what was shown last waits for what the list has before it."""
    for after in range(4, 22):
        text = f"swap {kind} {after} [[script: tools rounds=2 calls=2 swap=1]]"
        await a_turn(world, text, broken(kind, after, times=1))


async def test_many_turns_in_one_watch_with_a_stream_that_breaks_now_and_then(
    world: WireWorld,
) -> None:
    talk = Talk(world)
    await talk.open()
    kinds = ["cut", "reset", "truncate", "error_event", "bad_json"]
    await world.rules(*(broken(kind, after=9 + n, times=2) for n, kind in enumerate(kinds)))
    async with talk.watching(fresh=True):
        for n in range(12):
            await talk.turn(f"turn {n} [[script: threads]]")
            assert talk.state.turn is None
    await talk.check_all_heard_once()
    assert len(await talk.sent()) == 12


async def test_more_events_than_the_queue_holds_are_not_lost(world: WireWorld) -> None:
    await a_turn(world, "a lot [[script: long events=3000]]", broken("reset", after=1_200, times=1))


async def test_an_exhausted_turn_ends_with_what_was_never_processed(world: WireWorld) -> None:
    """The message that was dropped is an event all the same."""
    talk = Talk(world)
    await talk.open()
    await world.rules(broken("cut", after=2, times=1))
    async with talk.watching(fresh=True):
        idle = await talk.turn("poor [[script: exhausted unprocessed=1]]")
    assert stop_reason(idle) == "retries_exhausted"
    assert [event.type for event in talk.heard].count("user.message") == 1
    assert talk.heard[-1].type == "session.status_idle"


async def test_the_end_of_a_terminated_session_is_heard(world: WireWorld) -> None:
    talk = Talk(world)
    await talk.open()
    await world.rules(broken("cut", after=2, times=2))
    async with talk.watching(fresh=True):
        await talk.send("too long [[script: terminal]]")
        await talk.hear("session.status_terminated")
    await talk.check_all_heard_once()


async def test_a_stream_nobody_may_open_is_told(world: WireWorld) -> None:
    talk = Talk(world)
    await talk.open()
    for status, lost in ((404, True), (400, False)):
        fault = {"kind": "respond", "status": status}
        await world.rules({"match": {**STREAM, "times": 1}, "fault": fault})
        with pytest.raises(ProviderFailure) as caught:
            async with talk.watching(fresh=True):
                pass
        assert caught.value.lost == lost
        assert caught.value.final != lost


async def test_a_session_archived_while_the_stream_was_down_is_told(
    world: WireWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end is shown to listeners only, and a stream on it opens and stays silent."""
    monkeypatch.setattr(stream, "TIMEOUT", httpx2.Timeout(5.0, read=1.0))
    talk = Talk(world)
    await talk.open()
    await world.rules(broken("silent", after=0, times=1))
    async with talk.watching(fresh=True) as feed:
        await talk.send("may I? [[script: confirm]]")
        await until_it_rests(world, talk.session)
        await world.retire(talk.session)
        with pytest.raises(ProviderFailure) as caught:
            await hear_on(talk, feed)
    assert caught.value.lost
    await talk.check_all_heard_once()


async def hear_on(talk: Talk, feed: ProviderFeed) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            talk.heard += await feed.next()


async def until_it_rests(world: WireWorld, session: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            log = await world.log(session)
            if b"session.status_idle" in b"".join(log.events[None]):
                return
            await asyncio.sleep(0.01)
