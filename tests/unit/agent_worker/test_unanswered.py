"""What nobody answers for a whole day is denied. Crashes meanwhile: the crash plays, with two hours."""

from __future__ import annotations

import pytest

from services.agent_worker.ports import ProviderFailure
from tests.builders import turn
from tests.unit.agent_worker import virtual_time
from tests.unit.agent_worker.outcome import Outcome, outcome, the_log
from tests.unit.agent_worker.outside import A_DAY, TWO_HOURS, Outside
from tests.unit.agent_worker.plays import people
from tests.unit.agent_worker.runs import quiet
from tests.unit.agent_worker.worker import Worker, know_tasks

pytestmark = pytest.mark.unit
DAY = 24 * 3600.0


def test_what_nobody_answers_is_denied_after_a_day_and_no_sooner() -> None:
    async def main() -> tuple[float, Outcome]:
        know_tasks()
        outside = Outside(A_DAY)
        Worker(outside, "one").start()
        began = outside.clock()
        await people.unanswered(outside)
        await outside.until(lambda: outside.settled, "a rest")
        return (outside.clock() - began).total_seconds(), outcome(outside)

    seconds, found = virtual_time.run(main())
    assert DAY <= seconds < DAY + 2 * A_DAY.poll
    assert found == quiet("unanswered")[0]


def test_a_call_that_takes_no_denial_is_interrupted() -> None:
    """It would wait for ever: nobody else is asked once the time has come."""

    async def main() -> list[str]:
        know_tasks()
        outside = Outside(TWO_HOURS)
        worker = Worker(outside, "one")
        refused = ProviderFailure("invalid_request_error", "400: not like this", final=True)
        worker.effects.fails["answer"] = [refused]
        worker.start()
        outside.ask(turn("t1", people.CONFIRM))
        await outside.said("turn.interrupted")
        return [event.type for event in the_log(outside) if event.type.startswith("turn.")]

    told = virtual_time.run(main())
    assert told[-3:] == ["turn.requires_action", "turn.unanswered", "turn.interrupted"]
