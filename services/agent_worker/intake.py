"""From the inputs topic into the inbox: short, in batches, offsets committed only when the rows are.

A batch is one transaction. What can't be used is put into the dead letters in the same pass and never holds up the
rest. A crash between the transaction and the commit files the same ids again, which changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from msgspec.structs import replace

from services.agent_worker.ports import Key, NewInput, Store
from services.agent_worker.validate import Record, validated
from shared import logs, telemetry
from shared.errors import Corrupt, Transient
from shared.telemetry import SpanKind

FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0
log = logs.get(__name__)


class Inputs(Protocol):
    """The inputs topic, as a group member sees it."""

    async def batch(self) -> Sequence[Record]:
        """The next records, waiting for at least one."""
        ...

    async def commit(self) -> None:
        """Never be given again what `batch` gave last; harmless when the partitions went elsewhere."""
        ...


Bury = Callable[[Record, str, str], Awaitable[None]]


class Intake:
    """Files what is asked. `knows` tells whether a tenant is served, `news` hears of sessions with new inputs."""

    def __init__(
        self,
        inputs: Inputs,
        store: Store,
        *,
        bury: Bury,
        knows: Callable[[str], bool],
        news: Callable[[set[Key]], None],
    ) -> None:
        self._inputs = inputs
        self._store = store
        self._bury = bury
        self._knows = knows
        self._news = news

    async def run(self) -> None:
        """File batches until cancelled; a batch in hand is filed again by the next run."""
        while True:
            records = await self._inputs.batch()
            valid = [new for record in records if (new := await self._valid(record)) is not None]
            if valid:
                self._news(await self._file(valid))
            await self._inputs.commit()

    async def _valid(self, record: Record) -> NewInput | None:
        try:
            return _traced(validated(record, self._knows))
        except Corrupt as error:
            log.warning("dead_letter", reason=error.reason, source=record.source)
            await self._bury(record, error.reason, str(error))
            return None

    async def _file(self, inputs: list[NewInput]) -> set[Key]:
        """File, however long the database is away: the log keeps what comes meanwhile."""
        wait = FIRST_WAIT
        while True:
            try:
                news = await self._store.file(inputs)
            except Transient as error:
                log.warning("inputs_not_filed", reason=error.reason, inputs=len(inputs))
                await asyncio.sleep(wait)
                wait = min(wait * 2, LONGEST_WAIT)
            else:
                return news


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
