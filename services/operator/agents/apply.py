"""Brings the provider to what a folder declares, one file at a time, and notes each at once.

An apply may die at any instruction and be run again: what was made is found by its marks, what was updated by the
hash in its metadata. Two at once: an update names the version it is of, and of two creations the older one stays.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from services.operator.agents.declared import Declared
from services.operator.agents.lock import Entry, Lock
from services.operator.agents.plan import WRITES, Remote, Step, oldest_first, same_as_file
from services.operator.agents.provider import Changed
from services.operator.failures import Impossible

AGAIN = "Nothing of it was changed here: pull the newest lock and files, and apply again"


class Writer(Protocol):
    """What an apply does at the provider: see provider.Provider."""

    async def everything(self) -> list[Remote]: ...
    async def create(self, one: Declared, tenant: str) -> Remote: ...
    async def update(self, one: Declared, there: Remote, tenant: str) -> Remote: ...
    async def archive_agent(self, id: str) -> None: ...


class Apply:
    """`applied` is told of each agent or environment that is as its file says, and in the lock."""

    def __init__(
        self,
        provider: Writer,
        lock: Lock,
        tenant: str,
        applied: Callable[[Declared, Remote], Awaitable[None]],
    ) -> None:
        self._provider = provider
        self._lock = lock
        self._tenant = tenant
        self._applied = applied

    async def run(self, steps: Sequence[Step]) -> None:
        """Do what the steps say. Raises Impossible before the first write where one is blocked, and when somebody
        else was quicker with one."""
        blocked = [step for step in steps if step.action == "blocked"]
        if blocked:
            raise Impossible(
                f"nothing was applied: {len(blocked)} of {len(steps)} files are blocked"
            )
        for step in steps:
            found = await self._done(step)
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
        """What was made, unless somebody made one from this file at the same time, before: then that one stays.
        Raises Impossible."""
        alike = [
            found
            for found in await self._provider.everything()
            if same_as_file(found, one, self._tenant)
        ]
        first = oldest_first(alike)[0] if alike else made
        if first.id == made.id:
            return made
        await self._provider.archive_agent(made.id)
        raise Impossible(f"somebody else made {first.id} from {one.file} at the same time. {AGAIN}")
