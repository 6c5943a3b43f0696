"""From the inputs topic into the inbox: short, in batches, offsets committed only when the rows are.

A batch is one transaction. What can't be used is put into the dead letters in the same pass, all of it at once, and
never holds up the rest. Only when so much of what our own gateway wrote is unusable that the fault must be ours,
intake pauses: the log keeps it all. Then it tries again. A crash between the transaction and the commit files the
same ids again, which changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from msgspec.structs import replace

from services.agent_worker.inbox.validate import MARK, Bad, estranged, turn_input, validated
from services.agent_worker.ports import InputConsumer, InputRecord, NewInput, Store
from shared import logs, metrics, telemetry
from shared.bus.brake import Braked, IntakeBrake
from shared.errors import Corrupt, Transient
from shared.ownership import AskStrange
from shared.retry import patiently
from shared.session.key import SessionKey
from shared.telemetry import SpanKind

FIRST_WAIT, LONGEST_WAIT = 0.2, 1.0
log = logs.get(__name__)


T = TypeVar("T")
Parks = Callable[[InputRecord, Corrupt], NewInput | None]
Hand = Callable[[list[NewInput]], Awaitable[list[NewInput]]]
Bury = Callable[[Sequence[Bad]], Awaitable[None]]


class Intake:
    """Files what is asked. `knows` returns whether a tenant is served, `news` is called with sessions that have new
    inputs.

    `parks` returns what makes a session wait for a turn that nobody can use; without it later turns do not wait.
    `strange` returns which reference of a tenant's input is not the tenant's (`Ownership.strange`); without it all
    are. `hand` gives inputs to who drives their sessions in this process, and returns those that were not filed by
    that.
    `pause` is how many seconds intake rests when the brake holds it; `braked` says why it does, "" while inputs are
    taken in.
    """

    def __init__(
        self,
        inputs: InputConsumer,
        store: Store,
        *,
        bury: Bury,
        knows: Callable[[str], bool],
        news: Callable[[set[SessionKey]], None],
        brake: IntakeBrake,
        pause: float,
        parks: Parks | None = None,
        hand: Hand | None = None,
        strange: AskStrange | None = None,
    ) -> None:
        self._inputs = inputs
        self._store = store
        self._bury = bury
        self._knows = knows
        self._news = news
        self._brake = brake
        self._pause = pause
        self._parks = parks
        self._hand = hand
        self._strange = strange
        self.braked = ""

    async def run(self) -> None:
        """File batches until cancelled; a batch in hand is filed again by the next run."""
        while True:
            try:
                await self._once()
            except Braked as error:
                await self._rest(str(error))

    async def check(self) -> None:
        """For readiness: raises Braked while nothing is taken in."""
        if self.braked:
            raise Braked(self.braked)

    async def _once(self) -> None:
        """Take a batch in and commit. Raises Braked: of the first batch that is too bad nothing was taken in, and
        of one after a pause everything, else a batch would be tried for ever."""
        records = await self._inputs.batch()
        read = await self._owned([self._read(record) for record in records])
        why = self._brake.look(
            (record.headers, isinstance(new, NewInput))
            for record, new in zip(records, read, strict=True)
        )
        if why and not self.braked:
            raise Braked(why)
        await self._take(records, read)
        await self._inputs.commit()
        if why:
            raise Braked(why)
        if self.braked:
            self._go_on()

    def _read(self, record: InputRecord) -> NewInput | Corrupt:
        try:
            return _traced(validated(record, self._knows))
        except Corrupt as error:
            return error

    async def _owned(self, read: Sequence[NewInput | Corrupt]) -> Sequence[NewInput | Corrupt]:
        """What was read, less the inputs that refer to what is not their tenant's. Nothing is asked of a batch that
        names nothing."""
        if self._strange is None or not any(_names(new) for new in read):
            return read
        return await asyncio.gather(*map(self._if_ours, read))

    async def _if_ours(self, new: NewInput | Corrupt) -> NewInput | Corrupt:
        strange = self._strange
        if strange is None or not isinstance(new, NewInput) or not new.references:
            return new
        found = await waited_for(lambda: strange(new.key[0], new.references))
        return new if found is None else estranged(found)

    async def _take(
        self, records: Sequence[InputRecord], read: Sequence[NewInput | Corrupt]
    ) -> None:
        """Bury what is bad, file the rest; a session's turns and what makes it wait in the order of the records."""
        parked = await self._parked(records, read)
        bad: list[Bad] = []
        filed: list[NewInput] = []
        for record, new in zip(records, read, strict=True):
            if isinstance(new, NewInput):
                filed.append(new)
            elif (waits := parked.get(record.source)) is None:
                bad.append((record, new))
            else:
                filed.append(_traced(waits))
                bad.append((replace(record, headers=[*record.headers, (MARK, b"1")]), new))
        if bad:
            await self._bury(bad)
        if self._hand is not None:
            filed = await self._hand(filed)
        if filed:
            self._news(await self._file(filed))

    async def _parked(
        self, records: Sequence[InputRecord], read: Sequence[NewInput | Corrupt]
    ) -> dict[str, NewInput]:
        """What makes sessions wait for turns nobody can use, by the records' places; nothing for one that was taken
        in before."""
        if self._parks is None:
            return {}
        asked = {
            record.source: new
            for record, error in zip(records, read, strict=True)
            if isinstance(error, Corrupt) and (new := self._parks(record, error)) is not None
        }
        known = await asyncio.gather(*map(self._is_known, asked.values()))
        return {
            source: new
            for (source, new), is_known in zip(asked.items(), known, strict=True)
            if not is_known
        }

    async def _is_known(self, new: NewInput) -> bool:
        try:
            await waited_for(lambda: self._store.read(new.key, turn_input(new)))
        except KeyError:
            return False
        return True

    async def _rest(self, why: str) -> None:
        """Take nothing in for a while: sessions are driven on, and the place in the group is free for a worker that
        understands what is asked. Then count anew."""
        if not self.braked:
            metrics.set_gauge("turnstile_intake_braked", 1)
        metrics.inc("turnstile_intake_brakes_total")
        self.braked = why
        log.error("intake_stopped", reason=why, seconds=self._pause)
        await self._inputs.leave()
        await asyncio.sleep(self._pause)
        self._brake.retry()

    def _go_on(self) -> None:
        self.braked = ""
        metrics.set_gauge("turnstile_intake_braked", 0)
        log.info("intake_goes_on")

    async def _file(self, inputs: list[NewInput]) -> set[SessionKey]:
        """File, however long the database is away: the log keeps what comes meanwhile."""
        return await waited_for(lambda: self._store.file(inputs))


def _names(new: NewInput | Corrupt) -> bool:
    return isinstance(new, NewInput) and bool(new.references)


async def waited_for(ask: Callable[[], Awaitable[T]]) -> T:
    """What the database returns, however long it is away."""
    return await patiently(
        ask, on=Transient, first=FIRST_WAIT, longest=LONGEST_WAIT, say=_not_filed
    )


def _not_filed(failures: int, error: Exception) -> None:
    log.warning("inputs_not_filed", failures=failures, reason=getattr(error, "reason", ""))


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
