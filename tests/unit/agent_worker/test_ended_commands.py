"""A command that ended is struck off the row by the next write, so what came of it is decided on in the same one.

A worker dies when it has just written a request that came while the end of a command was on its way: the next one
goes on all the same."""

from __future__ import annotations

import asyncio

import pytest

from services.agent_worker.ports import ProviderFailure
from tests.builders import turn
from tests.unit.agent_worker import virtual_time
from tests.unit.agent_worker.effects import Halt
from tests.unit.agent_worker.outcome import the_log
from tests.unit.agent_worker.outside import Outside
from tests.unit.agent_worker.worker import SLOW_STORE, Worker, know_tasks

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("seconds", [0.28, 0.30, 0.32, 0.34, 0.36])
@pytest.mark.parametrize("fails", ["", "open", "send"])
def test_what_came_of_a_command_survives(seconds: float, fails: str) -> None:
    """Reading the inbox takes longer than the provider, so the second request meets each end in mid-read."""
    for k in range(6, 22):
        virtual_time.run(_crashed(k, seconds, fails))


async def _crashed(k: int, seconds: float, fails: str) -> None:
    know_tasks()
    outside = Outside()
    first = Worker(outside, "first", halt=Halt(k, "after"), tempo=SLOW_STORE)
    first.effects.fails[fails] = [ProviderFailure("overloaded_error", "529: busy")]
    client = asyncio.create_task(_asked(outside, seconds))
    first.start()
    over = asyncio.create_task(first.over())
    await asyncio.wait((client, over), return_when=asyncio.FIRST_COMPLETED)
    over.cancel()
    if not client.done():
        await first.kill()
        Worker(outside, "second", tempo=SLOW_STORE).start()
    await client
    ends = [event.turn_id for event in the_log(outside) if event.type == "turn.completed"]
    assert (ends, outside.received) == (["t1", "t2"], outside.meant), f"crash at effect {k}"


async def _asked(outside: Outside, seconds: float) -> None:
    """Two turns, the second that long after the first."""
    outside.ask(turn("t1", "one"))
    await asyncio.sleep(seconds)
    outside.ask(turn("t2", "two", 1.0))
    await outside.until(lambda: outside.settled, "the end of both turns")
