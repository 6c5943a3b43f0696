"""One suite for the worker's Provider: in memory, and the real driver and SDK on the simulator. Good days."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from services.agent_worker.ports import ProviderFailure
from shared.session.inputs import Bound
from tests.builders import at, opening
from tests.contract.provider_talk import DEADLINE_S, Talk, new_session, stop_reason
from tests.contract.provider_worlds import World

pytestmark = pytest.mark.contract


# ---- sessions -------------------------------------------------------------------------------------------------


async def test_a_session_is_opened_on_an_agent_and_a_model(talk: Talk) -> None:
    made = await talk.open()
    assert made.id
    assert made.agent
    assert made.model


async def test_a_session_that_an_earlier_try_has_made_is_found_again(world: World) -> None:
    session_id = new_session()
    made = await Talk(world, session_id).open()
    assert await Talk(world, session_id).open(look=True) == made
    assert (await Talk(world, session_id).open()).id != made.id


async def test_one_is_opened_before_any_turn_found_again_and_takes_the_first_turn(
    world: World,
) -> None:
    talk = Talk(world)
    asked = opening(prewarm=True)
    talk.take(replace(asked, request=replace(asked.request, session_id=talk.state.session_id)))
    made = await world.provider.open(talk.state, look=False)
    assert await world.provider.open(talk.state, look=True) == made
    talk.take(Bound(provider_session_id=made.id, agent=made.agent, model=made.model, at=at(1)))
    assert talk.state.provider_session_id == made.id
    assert (await world.log(made.id)).messages == []
    async with talk.watching():
        idle = await talk.turn("hello")
    assert stop_reason(idle) == "end_turn"
    await talk.check_all_heard_once()


async def test_nobody_elses_session_is_adopted(world: World) -> None:
    mine = await Talk(world).open()
    assert (await Talk(world).open(look=True)).id != mine.id


async def test_a_closed_session_is_not_adopted(world: World) -> None:
    session_id = new_session()
    made = await Talk(world, session_id).open()
    await world.retire(made.id)
    assert (await Talk(world, session_id).open(look=True)).id != made.id


# ---- turns ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        *("reply", "tools", "threads", "long events=60", "error_retrying"),
        *("mcp calls=2", "compaction", "workflow threads=2", "workflow fails=1"),
    ],
)
async def test_every_event_of_a_turn_comes_once_in_order_byte_for_byte(
    talk: Talk, script: str
) -> None:
    await talk.open()
    async with talk.watching(fresh=True):
        idle = await talk.turn(f"tell me [[script: {script}]]")
    assert stop_reason(idle) == "end_turn"
    assert talk.state.turn is None
    await talk.check_all_heard_once()


async def test_content_arrives_as_it_was_sent(talk: Talk) -> None:
    blocks = [{"type": "text", "text": "où? 🎈\u2028 שלום"}, {"type": "text", "text": "second"}]
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.turn("  plain\ttext ")
        await talk.turn(blocks)
    log = await talk.world.log(talk.session)
    assert log.messages == [[{"type": "text", "text": "  plain\ttext "}], blocks]


async def test_the_same_words_in_two_turns_are_two_messages(talk: Talk) -> None:
    """What an earlier turn said is never taken for what is to be said now."""
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.turn("yes")
        talk.ask("yes")
        await talk.send("yes", look=True)
        await talk.hear()
    assert await talk.sent() == ["yes", "yes"]


async def test_a_message_that_an_earlier_try_has_sent_counts(talk: Talk) -> None:
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.send("once [[script: reply hold=1]]")
        await talk.send("once [[script: reply hold=1]]", look=True)
        await talk.world.release(talk.session)
        await talk.hear()
    assert await talk.sent() == ["once [[script: reply hold=1]]"]


async def test_another_message_of_an_earlier_try_does_not_count(talk: Talk) -> None:
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.send("one")
        await talk.hear()
        talk.ask("one and more")
        await talk.send("one and more", look=True)
        await talk.hear()
    assert await talk.sent() == ["one", "one and more"]


async def test_a_refusal_ends_the_turn_as_one(talk: Talk) -> None:
    await talk.open()
    async with talk.watching(fresh=True):
        idle = await talk.turn("no [[script: refusal]]")
    assert stop_reason(idle) == "refusal"
    assert talk.state.turn is None


async def test_deltas_are_previews_and_no_events(talk: Talk) -> None:
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.turn("in pieces [[script: reply]]")
    kinds = {preview["type"] for preview in talk.previews}
    assert kinds == {"event_start", "event_delta"}
    assert not kinds & {event.type for event in talk.heard}
    started = {p["event"]["id"] for p in talk.previews if p["type"] == "event_start"}
    assert started <= {event.id for event in talk.heard}


# ---- child threads, late events, watching again ---------------------------------------------------------------


async def test_events_of_children_come_before_the_end_of_the_turn(talk: Talk) -> None:
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.turn("together [[script: threads children=3]]")
    log = await talk.world.log(talk.session)
    children = [thread for thread in log.events if thread is not None]
    assert children
    assert {event.thread_id for event in talk.heard} == {None, *children}
    assert talk.heard[-1].type == "session.status_idle"
    await talk.check_all_heard_once()


async def test_an_event_after_the_idle_comes_too(talk: Talk) -> None:
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.send("wait [[script: reply late=1]]")
        await talk.hear("session.usage", 2)
    await talk.check_all_heard_once()


async def test_what_came_while_nobody_listened_comes_first(talk: Talk) -> None:
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.send("bye [[script: tools hold=1]]")
        await talk.hear("session.status_running")
    await talk.world.release(talk.session)
    async with talk.watching():
        await talk.hear()
    await talk.check_all_heard_once()


@pytest.mark.parametrize("script", ["tools rounds=2", "threads", "reply late=1"])
async def test_a_listener_that_reconnects_hears_every_event_once(talk: Talk, script: str) -> None:
    """Eight turns, each with a watch of its own: longer than what is remembered of any thread."""
    await talk.open()
    for n in range(8):
        async with talk.watching():
            await talk.turn(f"turn {n} [[script: {script}]]")
    if "late" in script:
        async with talk.watching():
            await talk.turn("the last one [[script: reply]]")
    await talk.check_all_heard_once()


# ---- closing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("erase", [False, True])
async def test_a_closed_session_takes_nothing_more(talk: Talk, erase: bool) -> None:
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.turn("hello")
    for _ in range(2):
        await talk.world.provider.close(talk.session, erase=erase)
    talk.ask("still there?")
    calls: list[Callable[[], Awaitable[None]]] = [lambda: talk.send("still there?")]
    if erase:
        calls += [talk.interrupt, lambda: talk.confirm("sevt_1")]
    for call in calls:
        with pytest.raises(ProviderFailure) as caught:
            await call()
        assert caught.value.lost


async def test_an_unknown_session_counts_as_closed(world: World) -> None:
    await world.provider.close("sesn_nobody", erase=True)


@pytest.mark.parametrize("erase", [False, True])
async def test_a_session_that_works_is_not_closed_yet(talk: Talk, erase: bool) -> None:
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.send("busy [[script: reply hold=1]]")
        await talk.hear("session.status_running")
        with pytest.raises(ProviderFailure) as caught:
            await talk.world.provider.close(talk.session, erase=erase)
        assert not caught.value.final
        await talk.interrupt()
        await talk.hear()
        await talk.world.provider.close(talk.session, erase=erase)
        assert (await talk.hear("session.status_terminated")).thread_id is None


async def test_a_listener_hears_that_its_session_was_deleted(talk: Talk) -> None:
    await talk.open()
    async with talk.watching(fresh=True) as feed:
        await talk.world.retire(talk.session, erase=True)
        await talk.hear("session.deleted")
        with pytest.raises(ProviderFailure) as caught:
            async with asyncio.timeout(DEADLINE_S):
                await feed.next()
        assert caught.value.lost


@pytest.mark.parametrize("erase", [False, True])
async def test_a_turn_whose_session_went_away_meanwhile_is_told(talk: Talk, erase: bool) -> None:
    """Nothing more would ever come: whoever listens must not wait for it."""
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.turn("please [[script: confirm]]")
    await talk.world.retire(talk.session, erase=erase)
    with pytest.raises(ProviderFailure) as caught:
        async with talk.watching():
            await talk.hear("session.deleted")
    assert caught.value.lost
