"""A provider session that went away while a turn waited for a person."""

from __future__ import annotations

import pytest

from tests.builders import confirming, turn
from tests.unit.agent_worker.outcome import the_log
from tests.unit.agent_worker.outside import Outside
from tests.unit.agent_worker.virtual_time import virtual
from tests.unit.agent_worker.worker import Worker, know_tasks

pytestmark = pytest.mark.unit


@virtual
async def test_an_answer_to_a_session_that_is_gone_lets_the_turn_go_on_in_another() -> None:
    know_tasks()
    outside = Outside()
    Worker(outside, "one").start()
    outside.ask(turn("t1", "please [[script: confirm]]"))
    waits = await outside.said("turn.requires_action")
    await outside.until(lambda: outside.settled, "a rest")
    (first,) = outside.provider.sessions.values()
    first.close(erase=True)
    call = next(e.event_id for e in the_log(outside) if e.type == "agent.tool_use")
    outside.ask(confirming(call))
    again = await outside.said("turn.requires_action", count=2)
    assert again.turn_id == waits.turn_id
    types = [event.type for event in the_log(outside)]
    assert types.count("session.rotated") == 1
    assert types.count("turn.retrying") == 1
