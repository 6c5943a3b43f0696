"""The provider is away for longer than one driver tries: what people asked for is not forgotten."""

from __future__ import annotations

import pytest

from services.agent_worker.ports import ProviderFailure
from services.agent_worker.session.perform import TRIES
from tests.builders import archiving, confirming, interrupting, turn
from tests.unit.agent_worker.test_shell import KEY, given, settled, types
from tests.unit.agent_worker.virtual_time import virtual
from tests.unit.agent_worker.worker import SETTINGS

pytestmark = pytest.mark.unit


def away(tries: int) -> list[Exception]:
    return [ProviderFailure("provider_unreachable", "no answer") for _ in range(tries)]


@virtual
async def test_an_approval_is_given_when_the_provider_is_back() -> None:
    outside, worker = given()
    outside.ask(turn("t1", "may I? [[script: confirm]]"))
    await outside.said("turn.requires_action")
    (action,) = outside.store.rows[KEY].head.state.pending
    worker.effects.fails["answer"] = away(2 * TRIES + 1)
    outside.ask(confirming(action.tool_use_id))
    await settled(outside)
    assert types(outside).count("turn.completed") == 1
    assert types(outside).count("user.tool_confirmation") == 1


@virtual
async def test_an_approval_is_waited_for_until_it_is_seen() -> None:
    """The stream is behind by more than an idle session stays claimed: let go of, it would go on a day later."""
    outside, worker = given()
    worker.effects.slow["next"] = 4 * SETTINGS.linger_seconds
    outside.ask(turn("t1", "may I? [[script: confirm]]"))
    await outside.said("turn.requires_action")
    (action,) = outside.store.rows[KEY].head.state.pending
    outside.ask(confirming(action.tool_use_id))
    await outside.said("turn.completed")
    assert types(outside).count("user.tool_confirmation") == 1


@virtual
async def test_an_interrupt_reaches_the_turn_it_was_meant_for() -> None:
    outside, worker = given()
    outside.ask(turn("t1", "hold on"))
    await outside.said("user.message")
    worker.effects.fails["interrupt"] = away(TRIES + 2)
    outside.ask(interrupting(1))
    await outside.said("turn.interrupted")
    await settled(outside)


@virtual
async def test_a_session_is_closed_when_the_provider_is_back() -> None:
    outside, worker = given()
    outside.ask(turn())
    await outside.said("turn.completed")
    worker.effects.fails["close"] = away(TRIES + 2)
    outside.ask(archiving(5))
    await settled(outside)
    (session,) = outside.provider.sessions.values()
    assert session.closed


@virtual
async def test_a_stop_leaves_an_answer_on_its_way_to_the_next_driver_at_once() -> None:
    """Not for when the answer would be overdue."""
    outside, first = given()
    outside.ask(turn("t1", "may I? [[script: confirm]]"))
    await outside.said("turn.requires_action")
    (action,) = outside.store.rows[KEY].head.state.pending
    first.effects.fails["answer"] = away(3)
    outside.ask(confirming(action.tool_use_id))
    await outside.until(lambda: "answer" in first.effects.done, "a try")
    await first.drain()
    wake = outside.store.rows[KEY].wake_at
    assert wake is not None
    assert wake <= outside.clock().timestamp()
    given("another", outside)
    await settled(outside)
    assert types(outside).count("turn.completed") == 1
