"""An agent that falls silent is given as long again after each thing that was done about it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.agent_worker.session.prompt import NUDGE
from shared.moment import parse
from shared.session.policy import DEFAULT
from tests.builders import turn
from tests.unit.agent_worker.outcome import the_log
from tests.unit.agent_worker.outside import A_DAY, Outside
from tests.unit.agent_worker.virtual_time import virtual
from tests.unit.agent_worker.worker import Worker, know_tasks

pytestmark = pytest.mark.unit
CALL_FOR = DEFAULT.call_for


@virtual
async def test_a_silent_agent_is_interrupted_once_and_goes_on_with_a_word_about_it() -> None:
    know_tasks()
    outside = Outside()
    Worker(outside, "one").start()
    outside.ask(turn("t1", "hold on"))
    await outside.said("turn.completed")
    types = [event.type for event in the_log(outside) if event.type.startswith("turn.")]
    assert types == [
        "turn.accepted",
        "turn.started",
        "turn.stalled",
        "turn.retrying",
        "turn.started",
        "turn.completed",
    ]


@virtual
async def test_an_agent_whose_tool_runs_is_not_silent() -> None:
    """A build takes an hour and says nothing."""
    outside, _ = _building()
    await _an_hour(outside)
    for session in outside.provider.sessions.values():
        session.release()
    await outside.said("turn.completed")
    assert "turn.stalled" not in [event.type for event in the_log(outside)]


@virtual
async def test_a_tool_that_takes_longer_than_a_call_may_is_interrupted_and_the_agent_goes_on() -> (
    None
):
    outside, _ = _building()
    assert CALL_FOR <= await _stalled(outside) < CALL_FOR + 2
    await outside.said("turn.completed")
    (session,) = outside.provider.sessions.values()
    assert session.messages[-1] == [{"type": "text", "text": NUDGE}]


@virtual
async def test_a_driver_that_takes_over_waits_for_a_tool_no_longer_than_the_one_before() -> None:
    outside, first = _building()
    await _an_hour(outside)
    await first.kill()
    Worker(outside, "two").start()
    assert CALL_FOR <= await _stalled(outside) < CALL_FOR + 2


def _building() -> tuple[Outside, Worker]:
    """A turn whose tool runs until it is released, at a provider that has our clock; and its worker."""
    know_tasks()
    outside = Outside(A_DAY)
    outside.provider.clock = outside.clock
    worker = Worker(outside, "one")
    worker.start()
    outside.ask(turn("t1", "build it [[script: long_tool]]"))
    return outside, worker


async def _an_hour(outside: Outside) -> None:
    used = parse((await outside.said("agent.tool_use")).at)
    await outside.until(lambda: outside.clock() - used > timedelta(hours=1), "an hour")


async def _stalled(outside: Outside) -> float:
    """Seconds from the call until it counted as stalled."""
    stalled = parse((await outside.said("turn.stalled")).at)
    return (stalled - parse((await outside.said("agent.tool_use")).at)).total_seconds()
