"""What a list has beyond what was recorded, known only by the newest ids."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

import pytest

from services.agent_worker.provider.list_overlap import KNOWN_RUN, unrecorded
from shared.session.state import TAIL

pytestmark = pytest.mark.unit


async def pages(count: int, size: int = 10) -> AsyncIterator[list[bytes]]:
    for start in range(0, count, size):
        yield [b'{"id":"e%d"}' % n for n in range(start, min(start + size, count))]


async def places(count: int, known: Collection[int]) -> list[int]:
    ids = {f"e{n}" for n in known}
    found = await unrecorded(pages(count), ids.__contains__)
    return [int(raw.split(b'"e')[1].split(b'"')[0]) for raw in found]


async def test_events_after_the_known_ones_are_missing() -> None:
    assert await places(200, range(130, 194)) == [194, 195, 196, 197, 198, 199]


async def test_an_event_recorded_early_and_forgotten_is_not_taken_for_news() -> None:
    """The primary thread shows the eleventh event before the second: of 72 recorded ones it is forgotten first."""
    recorded = [0, 1, 11, *range(2, 11), *range(12, 72)]
    assert await places(75, recorded[-TAIL:]) == [72, 73, 74]


async def test_late_events_between_known_ones_are_missing_and_old_ones_are_not() -> None:
    known = [5, *range(130, 170), 172, 174]
    assert await places(180, known) == [170, 171, 173, 175, 176, 177, 178, 179]


async def test_without_a_run_of_known_events_all_after_the_first_are_missing() -> None:
    known = range(100, 100 + KNOWN_RUN - 1)
    assert await places(133, known) == [131, 132]
    assert await places(20, ()) == []
