"""Recovery times: from a strike until things go on.

For a part that turns run through: until every session that had a turn accepted and not ended at that moment shows
its next event to its client, an event that happened after the strike. For a part that records: until ClickHouse
takes an event again. For Kafka: both.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.chaos.archive import Archive
from tests.chaos.follower import Follower
from tests.chaos.schedule import WORKER, Strike

TIMEOUT_S = 60.0
_RECORDING = ("recorder", "clickhouse", "kafka")
_ONLY_RECORDING = ("recorder", "clickhouse")
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Recovery:
    """What became of a strike. `seconds`: None when it was not over after TIMEOUT_S. `slowest`: the session that
    took longest. `troubled`: the provider misbehaved meanwhile, so part of the wait may be its own."""

    strike: Strike
    seconds: float | None
    busy: int
    slowest: str
    troubled: bool = False

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def counts_from_the_start(strike: Strike) -> bool:
    """A pause counts from its end, but a worker's from its beginning: another one is there to take over."""
    return strike.kind != "pause" or strike.part.startswith(WORKER)


async def recovered(
    strike: Strike,
    followers: Sequence[Follower],
    archive: Archive,
    excused: Callable[[str], bool],
) -> Recovery:
    """Wait until it is over. Sessions `excused` in the end do not count: the provider keeps them waiting."""
    struck, began = time.time(), time.monotonic()
    busy = [f for f in followers if f.busy and strike.part not in _ONLY_RECORDING]
    waits = [_goes_on(f, struck, began) for f in busy]
    if strike.part in _RECORDING:
        waits.append(_recorded(archive, struck, began))
    took = await asyncio.gather(*waits)
    names = [f.session_id for f in busy] + ["archive"] * (strike.part in _RECORDING)
    count = [(t, n) for t, n in zip(took, names, strict=True) if not excused(n)]
    seconds, slowest = max(count, default=(0.0, ""))
    return Recovery(strike, seconds if seconds < TIMEOUT_S else None, len(busy), slowest)


async def _goes_on(follower: Follower, struck: float, began: float) -> float:
    await follower.until(lambda: follower.latest > struck, TIMEOUT_S)
    return time.monotonic() - began


async def _recorded(archive: Archive, struck: float, began: float) -> float:
    while time.monotonic() - began < TIMEOUT_S:
        if await archive.goes_on(struck):
            break
        await asyncio.sleep(_POLL_S)
    return time.monotonic() - began
