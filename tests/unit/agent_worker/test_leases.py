"""Leases are kept by whoever lives, and last no longer than was asked for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from services.agent_worker.adapters.own_thread import in_own_thread
from services.agent_worker.leases import HANGS_SECONDS, Leases
from shared.errors import Transient
from shared.session.key import SessionKey
from tests.unit.agent_worker import virtual_time

pytestmark = pytest.mark.unit
OURS, THEIRS = ("acme", "ours"), ("acme", "theirs")


class Rows:
    """Extends one session; notes when, fails as often as told, and answers the first ones after these seconds."""

    def __init__(self, failures: int = 0, seconds: Sequence[float] = ()) -> None:
        self.extended: list[float] = []
        self._failures = failures
        self._seconds = list(seconds)

    async def extend(self, owner: str, lease_seconds: float) -> dict[SessionKey, int]:
        if self._failures:
            self._failures -= 1
            raise Transient("database_away", "gone")
        if self._seconds:
            await asyncio.sleep(self._seconds.pop(0))
        self.extended.append(asyncio.get_running_loop().time())
        return {OURS: 1}


def leases(seconds: float = 3.0) -> Leases:
    return Leases("w", seconds, asyncio.get_running_loop().time)


def test_a_lease_lasts_from_when_it_was_asked_for() -> None:
    async def scene() -> None:
        held = leases()
        claimed_at = held.monotonic()
        await asyncio.sleep(2.9)
        assert held.lasts(THEIRS, 1, claimed_at)
        await asyncio.sleep(0.2)
        assert not held.lasts(THEIRS, 1, claimed_at)

    virtual_time.run(scene())


def test_an_extension_prolongs_what_is_still_ours_and_nothing_else() -> None:
    async def scene() -> None:
        held = leases()
        claimed_at = held.monotonic()
        await asyncio.sleep(2.5)
        await held.extend(Rows())
        await asyncio.sleep(2.5)
        assert held.lasts(OURS, 1, claimed_at)
        assert not held.lasts(THEIRS, 1, claimed_at)

    virtual_time.run(scene())


def test_an_extension_is_of_an_epoch() -> None:
    """A session that was claimed anew since, by this very process too, is not held by who claimed it before."""

    async def scene() -> None:
        held = leases()
        claimed_at = held.monotonic()
        await asyncio.sleep(2.5)
        await held.extend(Rows())
        await asyncio.sleep(2.5)
        assert held.lasts(OURS, 1, claimed_at)
        assert not held.lasts(OURS, 2, claimed_at)

    virtual_time.run(scene())


def test_an_extension_that_was_answered_late_is_followed_by_the_next_at_once() -> None:
    async def scene() -> None:
        held, rows = leases(), Rows(seconds=[4.0])
        task = asyncio.create_task(held.run(rows))
        await asyncio.sleep(5.5)
        task.cancel()
        assert rows.extended == [5.0, 5.0]
        assert held.lasts(OURS, 1, claimed_at=0.0), "it counts from second 5"

    virtual_time.run(scene())


def test_of_two_extensions_the_one_asked_for_later_says_what_is_kept() -> None:
    async def scene() -> None:
        held, rows = leases(), Rows(seconds=[4.0, 0.5])
        first = asyncio.create_task(held.extend(rows))
        await asyncio.sleep(2.0)
        await held.extend(rows)
        await first
        assert held.kept.at == 2.0

    virtual_time.run(scene())


def test_a_lease_that_ran_out_is_asked_for_once_more_and_one_that_lasts_is_not() -> None:
    async def scene() -> None:
        held, rows = leases(), Rows()
        await held.regain(rows, OURS, 1, claimed_at=0.0)
        assert rows.extended == []
        await asyncio.sleep(4.0)
        again = (held.regain(rows, OURS, 1, claimed_at=0.0) for _ in range(200))
        await asyncio.gather(*again, held.regain(rows, THEIRS, 1, claimed_at=0.0))
        assert len(rows.extended) <= 3, "asked for together"
        assert held.lasts(OURS, 1, claimed_at=0.0)
        assert not held.lasts(THEIRS, 1, claimed_at=0.0)

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
