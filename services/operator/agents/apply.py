"""Brings the provider to what a folder declares, one file at a time, and notes each at once.

An apply may die at any instruction and be run again: what was made is found by its marks, what was updated by the
hash in its metadata. Two at once: an update names the version it is of, and of two creations the older one stays.
Of two that were made at the same moment, by the provider's clock, at most one stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from msgspec.structs import replace

from services.operator.agents.declared import Declared
from services.operator.agents.links import Linked, resolved
from services.operator.agents.lock import Entry, Lock
from services.operator.agents.plan import (
    WRITES,
    Remote,
    Step,
    made_together,
    oldest_first,
    same_as_file,
)
from services.operator.agents.provider import Changed
from services.operator.failures import Impossible

# How often, and how many seconds apart, the first of two that were made at the same moment looks for the other one
# to give way.
LOOKS, APART = 5, 1.0
AGAIN = "Nothing of it was changed here: pull the newest lock and files, and apply again"


class Writer(Protocol):
    """What an apply does at the provider: see provider.Provider."""

    async def everything(self) -> list[Remote]: ...
    async def create(self, one: Declared, tenant: str) -> Remote: ...
    async def update(self, one: Declared, there: Remote, tenant: str) -> Remote: ...
    async def archive_agent(self, id: str) -> None: ...


class Apply:
    """`applied` is told of each agent or environment that is as its file says, and in the lock; `pause` waits so
    many seconds."""

    def __init__(
        self,
        provider: Writer,
        lock: Lock,
        tenant: str,
        applied: Callable[[Declared, Remote], Awaitable[None]],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._provider = provider
        self._lock = lock
        self._tenant = tenant
        self._applied = applied
        self._pause = pause

    async def run(self, steps: Sequence[Step]) -> None:
        """Do what the steps say. Raises Impossible before the first write where one is blocked, and when somebody
        else was quicker with one."""
        blocked = [step for step in steps if step.action == "blocked"]
        if blocked:
            raise Impossible(
                f"nothing was applied: {len(blocked)} of {len(steps)} files are blocked"
            )
        made: dict[str, Linked] = {}
        for planned in steps:
            # The plan has guessed the versions that are made here, and left out what is.
            step = replace(planned, declared=resolved(planned.declared, made))
            found = await self._done(step)
            made[step.declared.file] = Linked(found.id, found.version)
            for double in step.doubles:
                await self._provider.archive_agent(double)
            if step.action in WRITES:
                one = step.declared
                self._lock.put(one.file, Entry(found.id, found.version, one.hash))
            await self._applied(step.declared, found)

    async def _done(self, step: Step) -> Remote:
        one = step.declared
        try:
            if step.action == "create":
                made = await self._provider.create(one, self._tenant)
                return await self._only(one, made) if one.kind == "agent" else made
            assert step.remote is not None
            if step.action == "update":
                return await self._provider.update(one, step.remote, self._tenant)
            return step.remote
        except Changed as changed:
            raise Impossible(f"somebody else was quicker: {changed}. {AGAIN}") from None

    async def _only(self, one: Declared, made: Remote) -> Remote:
        """What was made, unless somebody made one from this file before: then that one stays. Raises Impossible.

        Of two of one moment nobody knows who was before. The first by id gives the other one time to see both and
        to give way. One that does not had looked before there were two, and stays; the first gives way then.
        """
        other = made
        for look in range(LOOKS):
            if look:
                await self._pause(APART)
            alike = oldest_first(
                [
                    found
                    for found in await self._provider.everything()
                    if same_as_file(found, one, self._tenant)
                ]
            )
            others = [found for found in alike if found.id != made.id]
            if alike and alike[0].id != made.id:
                other = alike[0]
                break
            together = [found for found in others if made_together(found, made)]
            if not together:
                return made
            other = together[0]
        await self._provider.archive_agent(made.id)
        raise Impossible(f"somebody else made {other.id} from {one.file} at the same time. {AGAIN}")
