"""An agent that falls silent is given as long again after each thing that was done about it."""

from __future__ import annotations

import pytest

from tests.builders import turn
from tests.unit.agent_worker.outcome import the_log
from tests.unit.agent_worker.outside import Outside
from tests.unit.agent_worker.virtual_time import virtual
from tests.unit.agent_worker.worker import Worker, know_tasks

pytestmark = pytest.mark.unit


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
