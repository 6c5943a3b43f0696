"""What nobody answers for a whole day is denied. Crashes meanwhile: `test_crash_everywhere.py`, with two hours."""

from __future__ import annotations

import pytest

from tests.unit.agent_worker import virtual_time
from tests.unit.agent_worker.outcome import Outcome, outcome
from tests.unit.agent_worker.outside import A_DAY, Outside
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
