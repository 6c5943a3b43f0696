"""Waiting and trying again: how long the waits are, which errors end it, and what is said of it."""

from __future__ import annotations

import asyncio

import pytest

from shared.retry import patiently
from tests.unit.agent_worker.virtual_time import virtual

pytestmark = pytest.mark.unit


class Away(Exception):
    pass


class Asked:
    """Fails so many times with `error`, then returns "here"; notes when it was asked."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.failures = failures
        self.error = error or Away("not there")
        self.at: list[float] = []
        self.said: list[int] = []

    async def __call__(self) -> str:
        self.at.append(asyncio.get_running_loop().time())
        if len(self.at) <= self.failures:
            raise self.error
        return "here"

    def say(self, failures: int, error: Exception) -> None:
        self.said.append(failures)

    def waits(self) -> list[float]:
        return [round(b - a, 6) for a, b in zip(self.at, self.at[1:], strict=False)]


@virtual
async def test_waits_double_up_to_the_longest() -> None:
    asked = Asked(6)
    assert await patiently(asked, on=Away, first=0.2, longest=1.0, say=asked.say) == "here"
    assert asked.waits() == [0.2, 0.4, 0.8, 1.0, 1.0, 1.0]


@virtual
async def test_chance_alone_decides_the_share_of_a_wait() -> None:
    asked = Asked(2)
    chances = iter([0.0, 1.0])
    await patiently(
        asked, on=Away, first=1.0, longest=9.0, say=asked.say, chance=lambda: next(chances)
    )
    assert asked.waits() == [0.5, 2.0]


@virtual
async def test_an_outage_of_hours_is_waited_for_and_told_now_and_then() -> None:
    asked = Asked(5_000)
    assert await patiently(asked, on=Away, first=1.0, longest=1.0, say=asked.say) == "here"
    assert asked.said[:5] == [1, 5, 30, 60, 90]
    assert set(asked.waits()) == {1.0}


@virtual
async def test_another_error_is_raised_at_once() -> None:
    asked = Asked(1, KeyError("nobody"))
    with pytest.raises(KeyError):
        await patiently(asked, on=(Away, OSError), first=1.0, longest=1.0, say=asked.say)
    assert (len(asked.at), asked.said) == (1, [])


@virtual
async def test_the_last_error_is_raised_when_no_try_is_left() -> None:
    asked = Asked(9)
    with pytest.raises(Away, match="not there"):
        await patiently(
            asked,
            on=lambda error: "there" in str(error),
            first=1.0,
            longest=1.0,
            say=asked.say,
            tries=3,
        )
    assert len(asked.at) == 3


@virtual
async def test_a_cancellation_ends_the_waiting() -> None:
    asked = Asked(10**9)
    waiting = asyncio.create_task(
        patiently(asked, on=Exception, first=1.0, longest=1.0, say=asked.say)
    )
    await asyncio.sleep(2.5)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert len(asked.at) == 3


@virtual
async def test_a_cancellation_of_what_is_asked_is_no_error_to_try_again() -> None:
    async def asks() -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3):
            await patiently(asks, on=Exception, first=1.0, longest=1.0, say=lambda *_: None)
