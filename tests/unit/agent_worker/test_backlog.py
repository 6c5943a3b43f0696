"""The gauge of waiting sessions stands at what was counted last, also while the database is away."""

from __future__ import annotations

import asyncio

import pytest

from services.agent_worker.drive import report_backlog
from shared import metrics
from shared.errors import Transient

pytestmark = pytest.mark.unit


class Sessions:
    """Answers one after the other; the last one never comes."""

    def __init__(self, *answers: int | Transient) -> None:
        self._answers = list(answers)
        self.asked_out = asyncio.Event()

    async def due(self) -> int:
        if not self._answers:
            self.asked_out.set()
            await asyncio.Event().wait()
        answer = self._answers.pop(0)
        if isinstance(answer, Transient):
            raise answer
        return answer


@pytest.mark.parametrize(
    "answers", [(9, 4), (9, 4, Transient("database_away", "gone"))], ids=["counted", "away"]
)
async def test_the_gauge_stands_at_the_last_count(answers: tuple[int | Transient, ...]) -> None:
    sessions = Sessions(*answers)
    reporting = asyncio.create_task(report_backlog(sessions, every=0))
    async with asyncio.timeout(5):
        await sessions.asked_out.wait()
    assert metrics.read("turnstile_sessions_due") == 4
    reporting.cancel()
    await asyncio.gather(reporting, return_exceptions=True)
