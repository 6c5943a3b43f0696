"""One suite for the worker's Provider: outcomes are defined once, whatever becomes of the answer."""

from __future__ import annotations

from typing import Any

import pytest

from services.agent_worker.ports import ProviderFailure
from tests.contract.provider_talk import Talk, stop_reason

pytestmark = pytest.mark.contract


def wanted(description: str = "a page", rubric: str = "one page, no more") -> list[dict[str, Any]]:
    """The content of a turn that asks for an outcome."""
    text = {"type": "text", "content": rubric}
    return [{"type": "outcome", "description": description, "rubric": text, "max_iterations": 2}]


async def defined(talk: Talk) -> int:
    """How many outcomes the provider was told of in the session."""
    log = await talk.world.log(talk.session)
    return sum(b'"user.define_outcome"' in raw for raw in log.events[None])


async def test_an_outcome_is_worked_towards_and_evaluated(talk: Talk) -> None:
    await talk.open()
    async with talk.watching(fresh=True):
        idle = await talk.turn(wanted())
    assert stop_reason(idle) == "end_turn"
    assert talk.state.turn is None
    assert "span.outcome_evaluation_end" in {event.type for event in talk.heard}
    await talk.check_all_heard_once()


async def test_one_that_an_earlier_try_has_defined_counts(talk: Talk) -> None:
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.send(wanted())
        await talk.send(wanted(), look=True)
        await talk.hear()
    assert await defined(talk) == 1


async def test_the_same_outcome_in_two_turns_is_defined_twice(talk: Talk) -> None:
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.turn(wanted())
        talk.ask(wanted())
        await talk.send(wanted(), look=True)
        await talk.hear()
    assert await defined(talk) == 2


async def test_an_answer_that_is_lost_defines_nothing_twice(talk: Talk) -> None:
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.world.lose_answer("land_then_drop")
        await talk.send(wanted())
        await talk.hear()
    assert await defined(talk) == 1


async def test_neither_when_it_cannot_be_looked_up_at_once(talk: Talk) -> None:
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.world.lose_answer("land_then_drop", blind=True)
        with pytest.raises(ProviderFailure):
            await talk.send(wanted())
        await talk.world.heal()
        await talk.send(wanted(), look=True)
        await talk.hear()
    assert await defined(talk) == 1


async def test_a_message_and_an_outcome_are_not_taken_for_each_other(talk: Talk) -> None:
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.turn("a page")
        talk.ask(wanted())
        await talk.send(wanted(), look=True)
        await talk.hear()
        talk.ask("a page")
        await talk.send("a page", look=True)
        await talk.hear()
    assert await talk.sent() == ["a page", "a page"]
    assert await defined(talk) == 1
