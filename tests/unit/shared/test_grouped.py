"""Calls that share one statement: together while one is under way, alone when nothing is, none for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from shared.grouped import LARGEST, Grouped

pytestmark = pytest.mark.unit


class Doubling:
    """Doubles numbers, a group at a time, when it is told to."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.go = asyncio.Event()

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.groups.append(list(items))
        await self.go.wait()
        if -1 in items:
            raise ValueError("-1")
        return [2 * item for item in items]


async def test_calls_that_come_meanwhile_go_together_and_each_gets_its_own_result() -> None:
    doubling = Doubling()
    ask = Grouped(doubling)
    calls = [asyncio.create_task(ask(1))]
    await asyncio.sleep(0.001)
    calls.append(asyncio.create_task(ask(2)))
    await asyncio.sleep(0.001)
    calls += [asyncio.create_task(ask(number)) for number in range(3, LARGEST + 13)]
    await asyncio.sleep(0.001)
    assert doubling.groups == [[1], [2]]
    doubling.go.set()
    assert list(await asyncio.gather(*calls)) == [2 * number for number in range(1, LARGEST + 13)]
    assert [len(group) for group in doubling.groups] == [1, 1, LARGEST, 10]


async def test_no_empty_group_is_asked() -> None:
    doubling = Doubling()
    doubling.go.set()
    ask = Grouped(doubling)
    assert await ask(1) == 2
    assert await ask(2) == 4
    assert list(await asyncio.gather(ask(3), ask(4))) == [6, 8]
    await asyncio.sleep(0.001)
    assert doubling.groups == [[1], [2], [3, 4]]


async def test_a_failure_is_everyones_in_the_group_and_nobody_elses() -> None:
    doubling = Doubling()
    ask = Grouped(doubling)
    first = asyncio.create_task(ask(-1))
    await asyncio.sleep(0.001)
    second = asyncio.create_task(ask(2))
    doubling.go.set()
    assert await second == 4
    with pytest.raises(ValueError, match="-1"):
        await first
