"""The worker's Provider on bad days of requests: nothing is sent twice, nothing is taken for sent that was not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from services.agent_worker.ports import ProviderFailure
from services.agent_worker.provider import calls, send
from tests.contract.provider_talk import Talk, new_session, stop_reason
from tests.contract.provider_worlds import (
    SEND,
    MemoryWorld,
    Refusal,
    WireWorld,
    World,
)

pytestmark = pytest.mark.contract
REFUSALS = [
    Refusal(429, "rate_limit_error", retry_after=2.5),
    Refusal(529, "overloaded_error"),
    Refusal(503, "api_error", retry_after=7.0),
    Refusal(500, "api_error"),
    Refusal(409, "conflict_error"),
    Refusal(401, "authentication_error"),
]
CREATE = {"method": "POST", "path": "/v1/sessions$"}


@pytest.fixture(params=["memory", "anthropic"])
async def world(request: pytest.FixtureRequest, wire: WireWorld) -> AsyncIterator[World]:
    yield MemoryWorld() if request.param == "memory" else wire
    await wire.heal()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "SEND_TIMEOUT", 0.3)
    monkeypatch.setattr(send, "GRACE", (0.0, 0.05, 0.1))


# ---- messages -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: str(refusal.status))
async def test_a_refused_message_is_told_with_the_providers_wish(
    world: World, refusal: Refusal
) -> None:
    talk = Talk(world)
    await talk.open()
    async with talk.watching(fresh=True):
        await world.refuse(refusal)
        with pytest.raises(ProviderFailure) as caught:
            await talk.send("hello")
        failure = caught.value
        assert (failure.reason, failure.retry_after) == (refusal.reason, refusal.retry_after)
        assert not failure.final
        assert not failure.lost
        assert await talk.sent() == []
        await talk.send("hello", look=True)
        await talk.hear()
    assert await talk.sent() == ["hello"]


@pytest.mark.parametrize("how", ["land_then_drop", "land_then_respond", "land_then_delay"])
async def test_a_message_whose_answer_was_lost_is_known_by_looking(world: World, how: str) -> None:
    talk = Talk(world)
    await talk.open()
    async with talk.watching(fresh=True):
        await world.lose_answer(how)
        await talk.send("only once")
        assert stop_reason(await talk.hear()) == "end_turn"
    assert await talk.sent() == ["only once"]


@pytest.mark.parametrize("how", ["land_then_drop", "land_then_respond", "land_then_delay"])
async def test_a_message_that_could_not_be_looked_for_is_found_by_the_next_try(
    world: World, how: str
) -> None:
    talk = Talk(world)
    await talk.open()
    async with talk.watching(fresh=True):
        await world.lose_answer(how, blind=True)
        with pytest.raises(ProviderFailure) as caught:
            await talk.send("only once [[script: reply hold=1]]")
        assert not caught.value.final
        assert not caught.value.lost
        await world.heal()
        await talk.send("only once [[script: reply hold=1]]", look=True)
        await world.release(talk.session)
        await talk.hear()
    assert await talk.sent() == ["only once [[script: reply hold=1]]"]


@pytest.mark.parametrize("how", ["land_then_drop", "land_then_respond", "land_then_delay"])
async def test_the_words_of_an_earlier_turn_are_no_proof(healed: WireWorld, how: str) -> None:
    """The same text was said before and recorded; this one landed, too, and is told from it."""
    talk = Talk(healed)
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.turn("go on")
        talk.ask("go on")
        await healed.rules({"match": {**SEND, "times": 1}, "fault": {"kind": "drop"}})
        with pytest.raises(ProviderFailure):
            await talk.send("go on")
        assert await talk.sent() == ["go on"]
        await healed.lose_answer(how)
        await talk.send("go on", look=True)
        await talk.hear()
    assert await talk.sent() == ["go on"] * 2


async def test_a_message_that_never_arrived_is_not_taken_for_sent(healed: WireWorld) -> None:
    talk = Talk(healed)
    await talk.open()
    await healed.rules({"match": {**SEND, "times": 1}, "fault": {"kind": "drop"}})
    with pytest.raises(ProviderFailure, match="provider_unreachable"):
        await talk.send("hello")
    assert await talk.sent() == []


async def test_a_message_that_lands_while_it_is_looked_for_is_found(
    healed: WireWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was on its way in when our patience ended: the look-ups take longer than that."""
    monkeypatch.setattr(send, "GRACE", (0.0, 0.2, 1.0))
    talk = Talk(healed)
    await talk.open()
    slow = {"kind": "delay", "seconds": 0.7}
    await healed.rules({"match": {**SEND, "times": 1}, "fault": slow})
    await talk.send("slowly")
    assert await talk.sent() == ["slowly"]


async def test_a_message_the_provider_cannot_take_is_refused_for_good(wire: WireWorld) -> None:
    talk = Talk(wire)
    await talk.open()
    with pytest.raises(ProviderFailure) as caught:
        await talk.send([{"type": "text", "text": "x"}, {"type": "nonsense"}])
    assert caught.value.final
    assert caught.value.reason == "invalid_request_error"
    assert not caught.value.lost


async def test_a_date_as_a_wish_is_left_to_our_own_policy(healed: WireWorld) -> None:
    talk = Talk(healed)
    await talk.open()
    headers = {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}
    fault = {"kind": "respond", "status": 429, "headers": headers}
    await healed.rules({"match": {**SEND, "times": 1}, "fault": fault})
    with pytest.raises(ProviderFailure) as caught:
        await talk.send("hello")
    assert caught.value.retry_after is None


@pytest.mark.parametrize("wish", ["nan", "inf", "-3", "1e400"])
async def test_a_wish_that_is_no_time_is_none(healed: WireWorld, wish: str) -> None:
    talk = Talk(healed)
    await talk.open()
    fault = {"kind": "respond", "status": 429, "headers": {"Retry-After": wish}}
    await healed.rules({"match": {**SEND, "times": 1}, "fault": fault})
    with pytest.raises(ProviderFailure) as caught:
        await talk.send("hello")
    assert caught.value.retry_after in (None, 0.0)


# ---- sessions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [{"kind": "land_then_drop"}, {"kind": "land_then_respond"}])
async def test_a_session_whose_making_was_not_heard_of_is_adopted(
    healed: WireWorld, fault: dict[str, str]
) -> None:
    await Talk(healed).open()  # the agent and the environment are there
    await healed.rules({"match": {**CREATE, "times": 1}, "fault": fault})
    session_id = new_session()
    made = await Talk(healed, session_id).open()
    assert (await Talk(healed, session_id).open(look=True)).id == made.id
    assert len(await healed.made_for(session_id)) == 1


async def test_a_session_that_could_not_be_looked_for_is_adopted_by_the_next_try(
    healed: WireWorld,
) -> None:
    await Talk(healed).open()
    away = {"kind": "respond", "status": 503}
    await healed.rules(
        {"match": {**CREATE, "times": 1}, "fault": {"kind": "land_then_drop"}},
        {"match": {"method": "GET", "path": "/v1/sessions$"}, "fault": away},
    )
    talk = Talk(healed)
    with pytest.raises(ProviderFailure):
        await talk.open()
    await healed.heal()
    made = await talk.open(look=True)
    assert await healed.made_for(talk.state.session_id) == [made.id]


async def test_a_session_that_was_given_up_is_not_adopted(world: World) -> None:
    """One that hangs lives on, and looks like what a crash has left behind."""
    talk = Talk(world)
    hung = await talk.open()
    talk.state = replace(talk.state, given_up=(hung.id,))
    made = await talk.open(look=True)
    assert made.id != hung.id
    assert (await talk.open(look=True)).id == made.id


@pytest.mark.parametrize("status", [429, 500, 529])
async def test_a_session_that_was_refused_is_made_by_the_next_try(
    healed: WireWorld, status: int
) -> None:
    await Talk(healed).open()
    fault = {"kind": "respond", "status": status, "headers": {"Retry-After": "4"}}
    await healed.rules({"match": {**CREATE, "times": 1}, "fault": fault})
    talk = Talk(healed)
    with pytest.raises(ProviderFailure) as caught:
        await talk.open()
    assert caught.value.retry_after == 4.0
    assert not caught.value.final
    await talk.open(look=True)
    assert len(await healed.made_for(talk.state.session_id)) == 1
