"""What a test of bad days works with: the stack, what asks it questions, and a voice."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from tests.e2e.api import Api
from tests.e2e.archive import Archive
from tests.e2e.crowd import Crowd
from tests.e2e.provider import Provider
from tests.stack import LocalStack

WORKER = "agent-worker-1"
SERVICES = ("gateway", WORKER, "recorder")

Tell = Callable[[str], None]


class World(NamedTuple):
    """One stack from all sides."""

    stack: LocalStack
    api: Api
    archive: Archive
    provider: Provider

    async def crowd(self, name: str) -> Crowd:
        """A dozen conversations, each in the middle of a turn."""
        crowd = Crowd(name, self.api, self.archive, self.provider)
        await crowd.begin()
        return crowd

    def pids(self, *but: str) -> dict[str, int]:
        """The services' pids, `but` those: who dies of another's absence has a new one."""
        return {name: self.stack.pid(name) for name in SERVICES if name not in but}

    @asynccontextmanager
    async def without(self, part: str, *killed: str) -> AsyncIterator[None]:
        """The part is stopped inside. After, all serve again, and no service has died of it; those
        the test has `killed` inside are others."""
        others, former = self.pids(part, *killed), {name: self.stack.pid(name) for name in killed}
        await self.stack.stop(part)
        try:
            yield
        finally:
            await self.stack.start(part)
        for name, pid in former.items():
            await self.stack.back(name, pid)
        assert self.pids(part, *killed) == others, f"a service died while {part} was away"

    async def restart(self, part: str) -> float:
        """Kill the part; seconds until it served again."""
        began = time.monotonic()
        await self.stack.back(part, self.stack.kill(part))
        return time.monotonic() - began
