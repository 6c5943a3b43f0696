"""The real SDK on a running simulator, for the tests that need one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from anthropic import AsyncAnthropic

from infra.simulator.server import running
from infra.simulator.settings import Settings

BETA = {"anthropic-beta": "managed-agents-2026-04-01", "anthropic-version": "2026-10-21"}


def message(text: str) -> Any:
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


class Provider:
    """A running simulator, the SDK's client for it, and one agent with one environment."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = AsyncAnthropic(base_url=url, api_key="key", max_retries=0, timeout=30)
        self.http = httpx2.AsyncClient(base_url=url, timeout=30)
        self.beta = self.client.beta
        self.events = self.beta.sessions.events
        self.agent = self.environment = ""

    async def furnish(self) -> None:
        self.agent = (await self.beta.agents.create(model="claude-sonnet-5", name="helper")).id
        self.environment = (await self.beta.environments.create(name="place")).id

    async def close(self) -> None:
        await self.client.close()
        await self.http.aclose()

    async def session(self, **more: Any) -> str:
        made = await self.beta.sessions.create(
            agent=self.agent, environment_id=self.environment, **more
        )
        return made.id

    async def say(self, session: str, text: str) -> list[Any]:
        """Sends and reads the stream up to the end of the turn."""
        async with await self.events.stream(session) as stream:
            await self.events.send(session, events=[message(text)])
            return await read(stream)

    async def faults(self, *rules: Any) -> None:
        answer = await self.http.post("/_sim/faults", json={"rules": list(rules)})
        assert answer.status_code == 200, answer.text

    async def log(self, session: str) -> Any:
        return (await self.http.get(f"/_sim/sessions/{session}")).json()


async def read(stream: Any) -> list[Any]:
    seen = []
    async with asyncio.timeout(10):
        async for event in stream:
            seen.append(event)
            if event.type == "session.status_idle":
                break
    return seen


@asynccontextmanager
async def provided() -> AsyncIterator[Provider]:
    """A running simulator with one agent and one environment; keep-alives come quickly."""
    settings = Settings(port=0, status_lag_seconds=0.0, keepalive_seconds=0.2)
    async with running(settings) as url:
        it = Provider(url)
        await it.furnish()
        yield it
        await it.close()
