"""The stated capacity: so many at once, so many wait, in the order they came; the rest is turned away."""

from __future__ import annotations

import asyncio

import pytest

from services.gateway import gate as gates
from services.gateway.gate import Gate
from shared.errors import Transient

pytestmark = pytest.mark.unit


class Crowd:
    """Numbered visitors of a gate; each stays inside until it is let out."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.inside: list[int] = []
        self._out: dict[int, asyncio.Event] = {}

    async def visit(self, number: int) -> None:
        self._out[number] = asyncio.Event()
        async with self.gate:
            self.inside.append(number)
            await self._out[number].wait()
            self.inside.remove(number)

    def let_out(self, number: int) -> None:
        self._out[number].set()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_waiting_requests_enter_as_others_leave_and_more_are_turned_away() -> None:
    crowd = Crowd(Gate(2, 2))
    visits = [asyncio.create_task(crowd.visit(number)) for number in range(4)]
    await settled()
    assert crowd.inside == [0, 1]
    with pytest.raises(Transient) as caught:
        await crowd.visit(4)
    assert (caught.value.reason, caught.value.retry_after) == ("overloaded", 1.0)
    crowd.let_out(1)
    await settled()
    assert crowd.inside == [0, 2]
    for number in (0, 2, 3):
        await settled()
        crowd.let_out(number)
    await asyncio.wait_for(asyncio.gather(*visits), 5)
    async with crowd.gate, crowd.gate:  # both places are free again
        pass


async def test_a_request_that_waits_too_long_is_refused_and_leaves_no_gap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gates, "PATIENCE_SECONDS", 0.01)
    gate = Gate(1, 1)
    async with gate:
        with pytest.raises(Transient) as caught:
            async with gate:
                pytest.fail("there is one place")
        assert caught.value.reason == "overloaded"
        gone = asyncio.create_task(gate.__aenter__())
        await settled()
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
    async with gate:
        pass
