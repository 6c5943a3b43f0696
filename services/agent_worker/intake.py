"""From the inputs topic into the inbox: short, in batches, offsets committed only when the rows are.

A batch is one transaction. What can't be used is put into the dead letters in the same pass and never holds up the
rest, until it is so much that the fault must be ours: then nothing more is taken in, and the log keeps it all. A
crash between the transaction and the commit files the same ids again, which changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from msgspec.structs import replace

from services.agent_worker.parking import MARK, turn_input
from services.agent_worker.poison import Poison
from services.agent_worker.ports import Key, NewInput, Store
from services.agent_worker.validate import Record, validated
from shared import logs, metrics, telemetry
from shared.bus.brake import Braked
from shared.errors import Corrupt, Transient
from shared.telemetry import SpanKind

FIRST_WAIT, LONGEST_WAIT = 0.2, 1.0
log = logs.get(__name__)


class Inputs(Protocol):
    """The inputs topic, as a group member sees it."""

    async def batch(self) -> Sequence[Record]:
        """The next records, waiting for at least one."""
        ...

    async def commit(self) -> None:
        """Never be given again what `batch` gave last; harmless when the partitions went elsewhere."""
        ...

    async def leave(self) -> None:
        """Read no more: what was not committed is for the other members of the group."""
        ...


T = TypeVar("T")
Bad = tuple[Record, Corrupt]
Parks = Callable[[Record, Corrupt], NewInput | None]
Bury = Callable[[Record, str, str], Awaitable[None]]


class Intake:
    """Files what is asked. `knows` tells whether a tenant is served, `news` hears of sessions with new inputs.

    `parks` says what makes a session wait for a turn that nobody can use; without it later turns do not wait.
    `braked` says why nothing is taken in any more, "" while inputs are.
    """

    def __init__(
        self,
        inputs: Inputs,
        store: Store,
        *,
        bury: Bury,
        knows: Callable[[str], bool],
        news: Callable[[set[Key]], None],
        poison: Poison,
        parks: Parks | None = None,
    ) -> None:
        self._inputs = inputs
        self._store = store
        self._bury = bury
        self._knows = knows
        self._news = news
        self._poison = poison
        self._parks = parks
        self.braked = ""

    async def run(self) -> None:
        """File batches until cancelled; a batch in hand is filed again by the next run."""
        try:
            while True:
                await self._take(await self._inputs.batch())
                await self._inputs.commit()
        except Braked as error:
            await self._stop(str(error))

    async def check(self) -> None:
        """For readiness: raises Braked once nothing is taken in any more."""
        if self.braked:
            raise Braked(self.braked)

    async def _take(self, records: Sequence[Record]) -> None:
        """Bury and file a batch. Raises Braked before anything of it is buried."""
        valid, bad = await self._sorted(records)
        for record, error in bad:
            await self._bury(record, error.reason, str(error))
        if valid:
            self._news(await self._file(valid))

    async def _sorted(self, records: Sequence[Record]) -> tuple[list[NewInput], list[Bad]]:
        valid: list[NewInput] = []
        bad: list[Bad] = []
        for record in records:
            try:
                valid.append(_traced(validated(record, self._knows)))
            except Corrupt as error:
                log.warning("dead_letter", reason=error.reason, source=record.source)
                self._poison.bad(record.headers)
                parked = await self._parked(record, error)
                if parked is not None:
                    valid.append(_traced(parked))
                    record = replace(record, headers=[*record.headers, (MARK, b"1")])
                bad.append((record, error))
            else:
                self._poison.good(1)
        return valid, bad

    async def _parked(self, record: Record, error: Corrupt) -> NewInput | None:
        """What makes the session wait for this turn; None when nothing does, or the turn was taken in before."""
        new = self._parks(record, error) if self._parks else None
        if new is None:
            return None
        try:
            await patiently(lambda: self._store.read(new.key, turn_input(new)))
        except KeyError:
            return new
        return None

    async def _stop(self, why: str) -> None:
        """Stay without taking anything in, until cancelled: sessions are driven on, and the place in the group is
        free for a worker that understands what is asked."""
        self.braked = why
        metrics.set_gauge("turnstile_intake_braked", 1)
        log.error("intake_stopped", reason=why)
        await self._inputs.leave()
        await asyncio.get_running_loop().create_future()

    async def _file(self, inputs: list[NewInput]) -> set[Key]:
        """File, however long the database is away: the log keeps what comes meanwhile."""
        return await patiently(lambda: self._store.file(inputs))


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """What the database answers, however long it is away."""
    wait = FIRST_WAIT
    while True:
        try:
            return await ask()
        except Transient as error:
            log.warning("inputs_not_filed", reason=error.reason)
        await asyncio.sleep(wait)
        wait = min(wait * 2, LONGEST_WAIT)


def _traced(new: NewInput) -> NewInput:
    """The input with a trace to go on in: its publisher's, else the one that begins here."""
    with telemetry.span(
        "process turnstile.inputs.v1",
        parent=new.traceparent,
        kind=SpanKind.CONSUMER,
        attributes={"turnstile.tenant_id": new.key[0], "turnstile.session_id": new.key[1]},
    ):
        given = telemetry.trace_id_of(new.traceparent)
        return new if given else replace(new, traceparent=telemetry.traceparent())
