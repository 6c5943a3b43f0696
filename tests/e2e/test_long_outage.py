"""The log is away for a minute, longer than a request to it may take: drivers wait, and nothing is lost."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.e2e.world import Tell, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
AWAY_S = 60.0


async def test_every_turn_ends_after_a_minute_without_the_log(world: World, tell: Tell) -> None:
    """Turns in every stage: held by their agent, waiting for people, in line. No process may end of it."""
    crowd = await world.crowd("a-minute")
    async with world.without("kafka"):
        began = time.monotonic()
        await crowd.release(crowd.held)  # what the agents say now can't be published
        await asyncio.sleep(AWAY_S)
        away = time.monotonic() - began
    back = time.monotonic()
    await crowd.say()
    await crowd.answer()
    await crowd.ended()
    tell(f"kafka away for {away:.0f} s: all turns ended {time.monotonic() - back:.1f} s after it")
    await crowd.check()
