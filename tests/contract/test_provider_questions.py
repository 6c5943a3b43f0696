"""An agent asks: the answer is given once, and heard in its place. In memory, and the real driver."""

from __future__ import annotations

import asyncio

import pytest

from shared.session import provider
from tests.contract.provider_talk import Talk
from tests.contract.provider_worlds import WireWorld, World

pytestmark = pytest.mark.contract


async def _to_the_end(talk: Talk) -> None:
    while talk.state.turn is not None:
        await talk.hear()
    await talk.check_all_heard_once()


@pytest.mark.parametrize("script", ["confirm", "custom_tool"])
async def test_answers_at_the_same_time_are_one(world: World, script: str) -> None:
    talk = Talk(world)
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.turn(f"please [[script: {script}]]")
        call = talk.state.pending[0].tool_use_id
        give = talk.confirm if script == "confirm" else talk.answer
        await asyncio.gather(*(give(call) for _ in range(5)))
        await _to_the_end(talk)
        await talk.turn("and now?")
    answers = [event for event in talk.heard if provider.answered(event.raw) == call]
    assert sum(event.type.startswith("user.") for event in answers) == 1
    await talk.check_all_heard_once()


async def test_answers_to_children_are_heard_where_the_list_has_them(wire: WireWorld) -> None:
    """The stream shows one in five without its time, and the session's own thread asks no model after it."""
    for number in range(8):
        talk = Talk(wire)
        await talk.open()
        async with talk.watching(fresh=True):
            await talk.send(f"together {number} [[script: threads children=2 ask=1]]")
            while talk.state.turn is not None or not talk.told:
                await talk.hear()
                for action in talk.state.pending:
                    await talk.answer(action.tool_use_id)
        await talk.check_all_heard_once()


@pytest.mark.parametrize("result", ["allow", "deny"])
@pytest.mark.parametrize(
    "script", ["confirm bare=1", "confirm bare=2", "unfamiliar", "unfamiliar calls=2"]
)
async def test_a_call_that_does_not_say_that_it_asks_is_answered(
    wire: WireWorld, script: str, result: str
) -> None:
    talk = Talk(wire)
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.turn(f"may I {result}? [[script: {script}]]")
        assert {action.kind for action in talk.state.pending} == {"confirmation"}
        assert all(action.name and action.input for action in talk.state.pending)
        for action in talk.state.pending:
            await talk.confirm(action.tool_use_id, result)
        await _to_the_end(talk)
    assert talk.told.count("turn.completed") == 1


@pytest.mark.parametrize("script", ["confirm", "confirm bare=2", "unfamiliar"])
async def test_a_call_that_comes_behind_the_idle_that_names_it_is_described_then(
    wire: WireWorld, script: str
) -> None:
    talk = Talk(wire)
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.turn(f"may I? [[script: {script} ahead=1]]")
        while not all(action.name for action in talk.state.pending):
            await talk.hear("agent.browser_use" if script == "unfamiliar" else "agent.tool_use")
        (action,) = talk.state.pending
        await talk.confirm(action.tool_use_id)
        while talk.state.turn is not None:
            await talk.hear()
    assert talk.told.count("turn.completed") == 1
