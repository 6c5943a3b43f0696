"""One suite for the worker's Provider, in memory and real: waiting for people, and interrupts."""

from __future__ import annotations

import pytest

from services.agent_worker.ports import ProviderFailure
from shared.session import provider
from shared.session.inputs import ProviderEvent
from tests.contract.provider_talk import Talk, stop_reason
from tests.contract.provider_worlds import World

pytestmark = pytest.mark.contract


# ---- waiting for people ---------------------------------------------------------------------------------------


async def asked(talk: Talk, script: str) -> str:
    """Id of the call that waits."""
    await talk.turn(f"please [[script: {script}]]")
    (action,) = talk.state.pending
    return action.tool_use_id


async def test_a_wait_for_a_person_ends_no_turn(talk: Talk) -> None:
    await talk.open()
    async with talk.watching(fresh=True):
        call = await asked(talk, "confirm")
        assert stop_reason(talk.heard[-1]) == "requires_action"
        assert talk.state.open_turn == "t1"
        await talk.confirm(call)
        assert stop_reason(await ended(talk)) == "end_turn"
    assert talk.state.turn is None
    await talk.check_all_heard_once()


async def ended(talk: Talk) -> ProviderEvent:
    """The idle that ends the turn: a wait may be announced twice."""
    while stop_reason(idle := await talk.hear()) == "requires_action":
        pass
    return idle


@pytest.mark.parametrize("script", ["confirm", "custom_tool"])
async def test_an_answered_call_is_left_alone(talk: Talk, script: str) -> None:
    await talk.open()
    give = talk.confirm if script == "confirm" else talk.answer
    async with talk.watching(fresh=True):
        call = await asked(talk, f"{script} hold=1")
        await give(call)
        await give(call)
        await talk.world.release(talk.session)
        await ended(talk)
        await give(call)
        await talk.turn("and now?")
    answers = [event for event in talk.heard if provider.answered(event.raw) == call]
    assert sum(event.type.startswith("user.") for event in answers) == 1
    assert sum(event.type == "session.status_idle" for event in talk.heard) <= 4
    await talk.check_all_heard_once()


async def test_a_call_may_be_denied(talk: Talk) -> None:
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.confirm(await asked(talk, "confirm"), "deny")
        await ended(talk)
    (said,) = (event for event in talk.heard if event.type == "user.tool_confirmation")
    assert b'"deny"' in said.raw


async def test_an_answer_to_no_call_is_refused_for_good(talk: Talk) -> None:
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.turn("hello")
    for give in (talk.confirm, talk.answer):
        with pytest.raises(ProviderFailure) as caught:
            await give("sevt_nothing")
        assert caught.value.final
        assert not caught.value.lost


async def test_an_answer_comes_before_the_work_on_it(talk: Talk) -> None:
    """Some are only ever shown without their time, and told by the list: their place is theirs all the same."""
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.turn("look up a lot [[script: custom_tool rounds=25 pace=0.1]]")
        while talk.state.turn is not None:
            for action in talk.state.pending:
                await talk.answer(action.tool_use_id)
            await talk.hear()
    await talk.check_all_heard_once()


async def test_a_message_while_answers_are_awaited_can_be_tried_again(talk: Talk) -> None:
    await talk.open()
    async with talk.watching(fresh=True):
        call = await asked(talk, "custom_tool")
        with pytest.raises(ProviderFailure) as caught:
            await talk.send("are you there?")
        assert not caught.value.final
        assert not caught.value.lost
        await talk.answer(call)
        await ended(talk)
        await talk.turn("are you there?")
    assert len(await talk.sent()) == 2


# ---- interrupts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["reply hold=1", "confirm"])
async def test_an_interrupt_ends_the_turn(talk: Talk, script: str) -> None:
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.send(f"stop me [[script: {script}]]")
        await talk.hear(f"session.status_{'idle' if script == 'confirm' else 'running'}")
        await talk.interrupt()
        assert stop_reason(await ended(talk)) == "end_turn"
    assert [e.type for e in talk.heard].count("user.interrupt") == 1
    assert talk.state.turn is None
    await talk.check_all_heard_once()


async def test_an_interrupted_turn_is_known_as_one_however_its_message_was_shown(
    world: World,
) -> None:
    """Some messages are shown once without their time, and never again: the list tells when they were taken up."""
    for _ in range(8):
        talk = Talk(world)
        await talk.open()
        async with talk.watching(fresh=True):
            await talk.send("stop me [[script: reply hold=1]]")
            await talk.hear("session.status_running")
            await talk.interrupt()
            await talk.hear()
        assert "turn.interrupted" in talk.told
        await talk.check_all_heard_once()


async def test_an_interrupt_of_nothing_changes_nothing(talk: Talk) -> None:
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.turn("first")
        await talk.interrupt()
        assert stop_reason(await talk.turn("second")) == "end_turn"
    assert await talk.sent() == ["first", "second"]
