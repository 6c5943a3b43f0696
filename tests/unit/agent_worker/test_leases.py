"""Leases are kept by whoever lives, and last no longer than was asked for."""

from __future__ import annotations

import asyncio
import threading

import pytest

from services.agent_worker.adapters.own_thread import in_own_thread
from services.agent_worker.leases import HANGS_SECONDS, Leases
from shared.errors import Transient
from shared.session.key import SessionKey
from tests.unit.agent_worker import virtual_time

pytestmark = pytest.mark.unit
OURS, THEIRS = ("acme", "ours"), ("acme", "theirs")


class Rows:
    """Extends one session; notes when, and fails as often as told."""

    def __init__(self, failures: int = 0) -> None:
        self.extended: list[float] = []
        self._failures = failures

    async def extend(self, owner: str, lease_seconds: float) -> set[SessionKey]:
        if self._failures:
            self._failures -= 1
            raise Transient("database_away", "gone")
        self.extended.append(asyncio.get_running_loop().time())
        return {OURS}


def leases(seconds: float = 3.0) -> Leases:
    return Leases("w", seconds, asyncio.get_running_loop().time)


def test_a_lease_lasts_from_when_it_was_asked_for() -> None:
    async def scene() -> None:
        held = leases()
        claimed_at = held.monotonic()
        await asyncio.sleep(2.9)
        assert held.lasts(THEIRS, claimed_at)
        await asyncio.sleep(0.2)
        assert not held.lasts(THEIRS, claimed_at)

    virtual_time.run(scene())


def test_an_extension_prolongs_what_is_still_ours_and_nothing_else() -> None:
    async def scene() -> None:
        held = leases()
        claimed_at = held.monotonic()
        await asyncio.sleep(2.5)
        await held.extend(Rows())
        await asyncio.sleep(2.5)
        assert held.lasts(OURS, claimed_at)
        assert not held.lasts(THEIRS, claimed_at)

    virtual_time.run(scene())


def test_leases_are_extended_three_times_in_one_and_again_after_the_database_was_away() -> None:
    async def scene() -> None:
        held, rows = leases(), Rows(failures=2)
        task = asyncio.create_task(held.run(rows))
        await asyncio.sleep(5.5)
        task.cancel()
        assert rows.extended == [3.0, 4.0, 5.0]

    virtual_time.run(scene())


def test_a_loop_that_hangs_lets_its_sessions_go_to_others_until_it_is_back() -> None:
    async def scene() -> None:
        held, rows = leases(), Rows()
        task = asyncio.create_task(held.run(rows))
        await asyncio.sleep(HANGS_SECONDS + 10)
        assert max(rows.extended) <= HANGS_SECONDS
        held.alive()
        await asyncio.sleep(1.5)
        task.cancel()
        assert max(rows.extended) > HANGS_SECONDS + 10

    virtual_time.run(scene())


async def test_what_runs_aside_goes_on_while_the_loop_is_busy_and_ends_with_its_owner() -> None:
    ticked, ended = threading.Event(), threading.Event()

    async def main() -> None:
        try:
            while True:
                await asyncio.sleep(0)
                ticked.set()
        finally:
            ended.set()

    async with in_own_thread("test", main):
        assert ticked.wait(5.0)  # blocks this loop: only another one can tick
    assert ended.is_set()


async def test_what_breaks_aside_is_heard_of() -> None:
    async def main() -> None:
        raise ZeroDivisionError

    async with in_own_thread("test", main) as broken:
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(broken(), 5.0)
