"""The simulated provider in virtual time, with streams that are jittered, swapped, stalled and cut by the dice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx2
import msgspec
from anthropic import AsyncAnthropic

from infra.simulator import stamps
from infra.simulator.api.app import build
from infra.simulator.content import SEND
from infra.simulator.faults.rules import Faults
from infra.simulator.play import inbox
from infra.simulator.play.channel import Listener
from infra.simulator.play.session import Session
from infra.simulator.play.thread import Thread
from infra.simulator.settings import Settings
from infra.simulator.world import World, new_world
from shared.session import provider

BEGIN = 1_790_000_000 * 1_000_000
SILENCE = 70.0


def now() -> float:
    return asyncio.get_running_loop().time()


class Jitter(httpx2.AsyncBaseTransport):
    """The simulator's application without a network: calls take their time, and some fail."""

    def __init__(self, app: Any, dice: Random, failing: float) -> None:
        self._inner = httpx2.ASGITransport(app=app)
        self._dice = dice
        self._failing = failing

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(self._dice.uniform(0.001, 0.03))
        if request.method == "GET" and self._dice.random() < self._failing:
            raise httpx2.ConnectError("away")
        response = await self._inner.handle_async_request(request)
        await asyncio.sleep(self._dice.uniform(0.001, 0.03))
        return response


@dataclass(frozen=True)
class Weather:
    """How bad the days are: `ends`, of streams; `between`: one may end, or stand still, between two neighbours that
    it swapped; `failing`: the share of lists that can't be had; `crashes`: how often a process may die; `blocked`:
    how often it may be kept from taking more in."""

    ends: tuple[str, ...] = ("cut", "reset", "silent", "")
    between: bool = False
    failing: float = 0.1
    crashes: tuple[float, ...] = (0.0, 0.05, 0.2)
    blocked: tuple[float, ...] = (0.0, 0.0, 0.3)
    calm: bool = False


CALM = Weather(ends=("",), failing=0.0, crashes=(0.0,), blocked=(0.0,), calm=True)


class Tape:
    """One provider session, its client for lists, and its streams. `came`: when each event was shown first."""

    def __init__(self, seed: int, weather: Weather) -> None:
        self.dice = Random(f"tape:{seed}")
        self.weather = weather
        self.came: dict[str, float] = {}
        pace = self.dice.choice((0.0, 0.02, 0.1, 1.0))
        settings = Settings(seed=seed, pace=pace, status_lag_seconds=0.0, mix={"tools": 1})
        self.world: World = new_world(settings, now=lambda: BEGIN + int(now() * 1e6))
        transport = Jitter(build(self.world, Faults(seed)), self.dice, weather.failing)
        http = httpx2.AsyncClient(transport=transport, base_url="http://tape")
        self.client = AsyncAnthropic(
            api_key="key", base_url="http://tape", max_retries=0, http_client=http
        )
        self.id = ""

    @property
    def session(self) -> Session:
        return self.world.sessions[self.id]

    async def begin(self) -> None:
        beta = self.client.beta
        while not self.id:
            try:
                agent = await beta.agents.create(name="a", model="claude-sonnet-5")
                place = await beta.environments.create(name=f"e{now()}")
                made = await beta.sessions.create(agent=agent.id, environment_id=place.id)
                self.id = made.id
            except httpx2.HTTPError:
                continue

    def put(self, *events: dict[str, Any]) -> bool:
        """Send events; returns False when they are refused."""
        body = SEND.decode(msgspec.json.encode({"events": events}))
        try:
            inbox.admit(self.session, body.events, self.world.casting)
        except Exception:
            return False
        inbox.file(self.session, body.events)
        self.world.driver.wake(self.session)
        return True

    def listed(self, thread: str | None) -> list[bytes]:
        where = self.session.primary if thread is None else self.session.threads[thread]
        return [entry.data for entry in where.log.ordered()]

    # ---- streams ----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def primary(self, client: Any, session: str) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._opened(self.session.primary) as records:
            yield records

    @asynccontextmanager
    async def child(
        self, client: Any, session: str, thread: str
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._opened(self.session.threads[thread]) as records:
            yield records

    @asynccontextmanager
    async def _opened(self, thread: Thread) -> AsyncIterator[AsyncIterator[bytes]]:
        await asyncio.sleep(self.dice.uniform(0.001, 0.05))
        if not self.weather.calm and self.dice.random() < 0.1:
            raise httpx2.ConnectError("away")
        listener = Listener(frozenset())
        thread.channel.listeners.add(listener)
        try:
            yield self._spoiled(listener)
        finally:
            thread.channel.listeners.discard(listener)

    async def _spoiled(self, listener: Listener) -> AsyncIterator[bytes]:
        dice, weather = self.dice, self.weather
        end, left = dice.choice(weather.ends), dice.randrange(0, 25)
        async for group in self._swapped(listener):
            if dice.random() < 0.3 and not weather.calm:
                await asyncio.sleep(dice.choice((0.001, 0.01, 0.019, 0.021, 0.05, 0.5)))
            for number, one in enumerate(group):
                left -= 1
                if end and left < 0 and (weather.between or not number):
                    if end == "silent":
                        await asyncio.sleep(SILENCE)
                        raise httpx2.ReadTimeout("silent")
                    if end == "reset":
                        raise httpx2.ReadError("reset")
                    return
                self.came.setdefault(provider.head(one).id, now())
                yield one

    async def _swapped(self, listener: Listener) -> AsyncIterator[list[bytes]]:
        """Events one by one, now and then two that came together the other way round."""
        while (chunk := await listener.next(3_600)) is not None:
            if self.dice.random() < 0.1 and not self.weather.calm:
                with contextlib.suppress(TimeoutError):
                    chunk += await listener.next(0.005) or b""
            records = [r.removeprefix(b"event: message\ndata: ") for r in chunk.split(b"\n\n") if r]
            while records:
                group = records[:1]
                if not self.weather.calm and self.dice.random() < 0.1 and _ordered(records[:3]):
                    group = records[:2][::-1]
                while records[len(group) :] and _at(records[len(group)]) < _at(group[-1]):
                    group.append(records[len(group)])  # swapped by the simulator itself
                del records[: len(group)]
                yield group


def _at(raw: bytes) -> int:
    at = provider.head(raw).processed_at
    return stamps.read(at) if at else 1 << 62


def _ordered(records: list[bytes]) -> bool:
    return sorted(records, key=_at) == records
