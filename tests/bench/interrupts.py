"""The time of an interrupt from its POST until the provider has it.

There is no bare program to compare with; what is promised is ALLOWED_MS.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime

from tests.bench.child import ChildError
from tests.bench.figures import spread_ms
from tests.bench.wire import Wire

ALLOWED_MS = 300.0
COUNT = 40
SESSION = "bench-interrupts"
# The provider holds the turn until it is interrupted.
HELD = "[[script: tools rounds=2 calls=1 hold=1]] Take your time, number {}."
WAIT_S = 30.0


async def measure(gateway: Wire, simulator: str) -> str:
    """Interrupt COUNT turns of a session of its own, one after another; what it came to, in a line.

    Raises ChildError when a turn is not held or not interrupted in time.
    """
    provider = Wire(simulator, {})
    await gateway.call("POST", "/v1/sessions", {"user_id": "bench", "session_id": SESSION})
    delays: list[float] = []
    try:
        for number in range(COUNT + 2):
            delays.append(await _interrupt(gateway, provider, number))  # noqa: PERF401
    finally:
        await provider.close()
    p50, p99 = spread_ms(delays[2:])  # the first ones warm the path
    kept = "kept" if p99 < ALLOWED_MS else "missed"
    return (
        f"{COUNT} interrupts of a running turn: p50 {p50:.0f} ms, p99 {p99:.0f} ms from the client to the "
        f"provider ({ALLOWED_MS:.0f} ms allowed: {kept})"
    )


async def _interrupt(gateway: Wire, provider: Wire, number: int) -> float:
    """Seconds that the interrupt of a turn takes to the provider."""
    before = len(await _posts(provider))

    async def prompted() -> bool:
        return len(await _posts(provider)) > before

    async def ended() -> bool:
        return bool((await gateway.call("GET", where))[0]["status"] == "interrupted")

    path = f"/v1/sessions/{SESSION}/turns"
    turn, _ = await gateway.call("POST", path, {"content": HELD.format(number)})
    where = f"{path}/{turn['turn_id']}"
    await _until(prompted, f"message {number} at the provider")
    _, sent = await gateway.call("POST", f"/v1/sessions/{SESSION}/interrupt", {})
    await _until(ended, f"end of the interrupted turn {number}")
    return (await _posts(provider))[before + 1] - sent


async def _posts(provider: Wire) -> list[float]:
    """When the provider received each message and interrupt (seconds since 1970), in order."""
    found, _ = await provider.call("GET", "/_sim/requests")
    return [
        datetime.fromisoformat(request["at"]).timestamp()
        for request in found["data"]
        if request["method"] == "POST" and request["path"].endswith("/events")
    ]


async def _until(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not await holds():
        if time.monotonic() > deadline:
            raise ChildError(f"no {what} within {WAIT_S:.0f} s")
        await asyncio.sleep(0.01)
