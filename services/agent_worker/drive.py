"""Claims the sessions that are due, keeps their leases, runs a shell for each, and lets go in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Sequence

from services.agent_worker.governor.governor import working_for
from services.agent_worker.leases import Leases
from services.agent_worker.ports import DueSessions, Head, NewInput
from services.agent_worker.session.dependencies import Dependencies
from services.agent_worker.session.shell import Shell
from services.agent_worker.settings import WorkerSettings
from shared import logs, metrics
from shared.errors import Fenced, Transient
from shared.session.key import SessionKey

LOOK_SECONDS = 5.0
log = logs.get(__name__)


async def report_backlog(sessions: DueSessions, every: float = LOOK_SECONDS) -> None:
    """Say what `turnstile_sessions_due` stands at, each `every` seconds, until cancelled.

    While the database is away it stands at what was seen last.
    """
    while True:
        try:
            metrics.set_gauge("turnstile_sessions_due", await sessions.due())
        except Transient as error:
            log.warning("sessions_not_counted", reason=error.reason)
        await asyncio.sleep(every)


# A session whose shell failed is looked at again after this long, by whichever worker.
DROPPED_SECONDS = 5.0
# Reasons of the store's: nothing is wrong with the session.
THE_DATABASES = ("database_away", "database_conflict")


class Drive:
    """Drives up to `settings.concurrency` sessions under `leases`, whose owner is this process alone, for ever."""

    def __init__(self, leases: Leases, needs: Dependencies, settings: WorkerSettings) -> None:
        self._leases = leases
        self._needs = needs
        self._settings = settings
        self._shells: dict[SessionKey, Shell] = {}
        self._tasks: dict[SessionKey, asyncio.Task[None]] = {}
        self._due = asyncio.Event()
        # Sessions with a lease and no shell: when they were looked for last; whose shell only the database stopped;
        # whose shell failed by itself.
        self._alone: frozenset[SessionKey] = frozenset()
        self._stranded: set[SessionKey] = set()
        self._failed: set[SessionKey] = set()
        self._strands = asyncio.Event()

    def news(self, keys: set[SessionKey]) -> None:
        """Inputs were filed by this process: driven sessions hear of them at once, others are claimed at once."""
        for key in keys:
            if (shell := self._shells.get(key)) is not None:
                shell.poke()
            else:
                self._due.set()

    async def hand(self, inputs: Sequence[NewInput]) -> list[NewInput]:
        """Give new inputs to the drivers that wait for some, which file them in the write that takes them in.
        Returns those that are not filed by then, in their order."""
        asked: dict[SessionKey, list[NewInput]] = {}
        for new in inputs:
            asked.setdefault(new.key, []).append(new)
        answers = {key: self._hand(key, its) for key, its in asked.items()}
        filed = {key for key, answer in answers.items() if answer is not None and await answer}
        return [new for new in inputs if new.key not in filed]

    def _hand(self, key: SessionKey, inputs: Sequence[NewInput]) -> Awaitable[bool] | None:
        shell = self._shells.get(key)
        # What an earlier version may have filed under another id is looked for by whoever files it.
        if shell is None or any(new.formerly for new in inputs):
            return None
        return shell.hand(inputs)

    async def run(self) -> None:
        """Claim sessions and drive them until cancelled; the leases are kept by whoever runs `Leases`."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._every(self._settings.poll_seconds, self._look))
            tasks.create_task(self._live())
            tasks.create_task(self._restore())
            tasks.create_task(self._every(self._settings.lease_seconds / 3, self._settle))
            await self._claims()

    async def drain(self) -> None:
        """Let every session go; what is being asked of the provider may be finished for `drain_seconds`."""
        for shell in self._shells.values():
            shell.stop()
        tasks = list(self._tasks.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._settings.drain_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # ---- claims -----------------------------------------------------------------------------------------------

    async def _claims(self) -> None:
        while True:
            room = self._settings.concurrency - len(self._tasks)
            at = self._leases.monotonic()
            claimed = await self._claim(min(room, 100)) if room > 0 else []
            if claimed and self._leases.monotonic() - at > self._leases.seconds / 2:
                await self._renew()
            for head in claimed:
                self._take(head, at)
            if len(claimed) < 100:
                self._due.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.poll_seconds):
                        await self._due.wait()

    async def _claim(self, limit: int) -> list[Head]:
        began = self._leases.monotonic()
        try:
            heads = await self._needs.store.claim(
                self._leases.owner, limit, self._settings.lease_seconds
            )
        except Transient as error:
            log.warning("nothing_claimed", reason=error.reason)
            return []
        metrics.observe("turnstile_claim_seconds", self._leases.monotonic() - began)
        if heads:
            metrics.inc("turnstile_leases_claimed_total", len(heads))
        return heads

    async def _renew(self) -> None:
        """Extend all leases now: while the database stood still, those that count from when they were asked for
        ran out."""
        with contextlib.suppress(Transient):
            await self._leases.extend(self._needs.store)

    def _take(self, head: Head, claimed_at: float) -> None:
        """Run a shell for a claimed session. Our own lease may have run out and been claimed again by ourselves:
        then the older shell is fenced off, and stopped here."""
        if (older := self._tasks.pop(head.key, None)) is not None:
            older.cancel()
        self._stranded.discard(head.key)
        self._failed.discard(head.key)
        shell = Shell(head, self._needs, self._leases, claimed_at)
        self._shells[head.key] = shell
        task = asyncio.create_task(self._run(shell))
        self._tasks[head.key] = task
        task.add_done_callback(lambda task: self._ended(head.key, task))
        metrics.set_gauge("turnstile_sessions_driven", len(self._tasks))

    def _ended(self, key: SessionKey, task: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key], self._shells[key]
            metrics.set_gauge("turnstile_sessions_driven", len(self._tasks))
            self._due.set()
            if key in self._stranded:
                self._strands.set()

    async def _run(self, shell: Shell) -> None:
        tenant, session = shell.key
        with logs.bind(tenant_id=tenant, session_id=session), working_for(tenant):
            try:
                await shell.run()
            except Fenced as fenced:
                metrics.inc("turnstile_leases_lost_total")
                log.warning("session_taken_over", detail=str(fenced))
                # Perhaps by nobody: a lease that ran out while the database was away is extended when it is back.
                self._stranded.add(shell.key)
            except Transient as error:
                whose = self._stranded if error.reason in THE_DATABASES else self._failed
                whose.add(shell.key)
                log.warning("session_dropped", reason=error.reason)
            except Exception as error:
                # The next driver starts from the row, once the lease was let go of (see `_settle`).
                self._failed.add(shell.key)
                log.exception("session_dropped", error=type(error).__name__)

    # ---- leases -----------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        """Show that this loop runs, whatever else it waits for: a database that is late must not look like a loop
        that hangs, since the leases that run out then bring it more work."""
        while True:
            self._leases.alive()
            await asyncio.sleep(self._settings.lease_seconds / 3)

    async def _settle(self) -> None:
        """Stop shells whose lease is gone, let go of sessions that have a lease and no shell.

        One whose shell failed waits; one that has no shell because the answer to its claim was lost need not.
        """
        at, mine = self._leases.kept
        for key, shell in list(self._shells.items()):
            if mine.get(key) != shell.epoch and shell.claimed_at < at and not shell.released:
                log.warning("lease_lost", tenant_id=key[0], session_id=key[1])
                self._tasks[key].cancel()
        # One just claimed or released may have no shell for a moment: only what was seen twice is really alone.
        alone = frozenset(mine.keys() - self._shells.keys())
        left, self._alone = alone & self._alone, alone - self._alone
        failed = left & self._failed
        await self._let_go(failed, DROPPED_SECONDS)
        await self._let_go(left - failed, 0.0)

    async def _restore(self) -> None:
        """Let go of sessions that only the absence of the database stopped, as soon as it is back: due at once."""
        while True:
            await self._strands.wait()
            self._strands.clear()
            self._stranded -= self._shells.keys()  # taken up again since
            try:
                await self._let_go(frozenset(self._stranded), 0.0)
            except Transient as error:
                log.warning("database_away", reason=error.reason)
                await asyncio.sleep(self._settings.poll_seconds)
                self._strands.set()

    async def _let_go(self, keys: Collection[SessionKey], after: float) -> None:
        """Letting go of what somebody else has taken over does nothing."""
        if keys:
            await self._needs.store.let_go(self._leases.owner, keys, after)
            self._stranded.difference_update(keys)
            self._failed.difference_update(keys)
            self._due.set()

    async def _look(self) -> None:
        for key in await self._needs.store.with_news(self._leases.owner):
            if (shell := self._shells.get(key)) is not None:
                shell.poke()

    async def _every(self, seconds: float, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await act()
            except Transient as error:
                log.warning("database_away", reason=error.reason)
