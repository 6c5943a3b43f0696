"""Brings the topics into the gateway's tables, batch by batch: read, apply, write, then commit the offsets.

A batch that was written but not committed is applied again and changes nothing (`last_seq`, `seq`).
Inputs that nobody could use are left to the agent-worker, which dead-letters them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

import msgspec
from msgspec.structs import replace

from services.gateway.ports import ReadModel, Record, RecordConsumer
from services.gateway.read_model.project import UNUSABLE, Projection
from shared import logs, metrics, telemetry
from shared.bus import envelope
from shared.bus.topics import INPUTS
from shared.errors import Corrupt, Transient
from shared.ownership import AskStrange
from shared.session.admission import admit, received
from shared.session.events import Event, read_event
from shared.session.inputs import Request
from shared.session.key import SessionKey
from shared.session.references import references

POLL_SECONDS = 1.0
FIRST_WAIT, LONGEST_WAIT = 0.2, 1.0
Input = tuple[Request, str]  # what was asked, its trace
_Item = Input | Event | None


_log = logs.get("gateway.projector")


class Projector:
    """One consumer, one writer.

    `knows` returns whether a tenant is served here, `strange` which reference of an input is not its tenant's
    (without it all are). `behind` is called with sessions whose states have to be folded anew.
    """

    def __init__(
        self,
        consumer: RecordConsumer,
        read_model: ReadModel,
        knows: Callable[[str], bool],
        behind: Callable[[Iterable[SessionKey]], None] = lambda _: None,
        strange: AskStrange | None = None,
    ) -> None:
        self._consumer = consumer
        self._read_model = read_model
        self._knows = knows
        self._behind = behind
        self._strange = strange

    async def run(self) -> None:
        """Project for ever; what is away is waited for, with growing waits."""
        # A loop of its own (see shared.retry): a batch that goes well makes the next wait short again.
        wait = FIRST_WAIT
        while True:
            try:
                await self.step()
                wait = FIRST_WAIT
            except Transient as error:
                _log.warning("projection_waits", reason=error.reason, detail=str(error))
                await self._consumer.rewind()
                await asyncio.sleep(wait)
                wait = min(wait * 2, LONGEST_WAIT)

    async def step(self) -> None:
        """One batch. Raises Transient with nothing committed: it will come again."""
        if records := await self._consumer.batch(POLL_SECONDS):
            await self._apply(records)
            await self._consumer.commit()

    async def _apply(self, records: Sequence[Record]) -> None:
        read = await self._owned([self._read(record) for record in records])
        found = list(zip(records, read, strict=True))
        requests = [item for _, item in found if isinstance(item, tuple)]
        events = [item for _, item in found if isinstance(item, Event)]
        keys = {(e.tenant_id, e.session_id) for e in events}
        keys |= {(request.tenant_id, request.session_id) for request, _ in requests}
        if not keys:
            return
        projection = Projection(await self._read_model.load(keys))
        for record, item in found:
            _apply_one(projection, record, item)
        changes = projection.finish()
        metrics.set_gauge("turnstile_pending_writes", len(changes.sessions) + len(changes.turns))
        await self._read_model.save(changes)
        metrics.set_gauge("turnstile_pending_writes", 0)
        self._behind(projection.behind)
        metrics.inc("turnstile_inputs_projected_total", len(requests))
        metrics.inc("turnstile_events_projected_total", len(events))

    async def _owned(self, read: list[_Item]) -> list[_Item]:
        """What was read, less the inputs that refer to what is not their tenant's: they are dead letters."""
        if self._strange is None:
            return read
        requests = {place: item[0] for place, item in enumerate(read) if isinstance(item, tuple)}
        named = {place: references(request) for place, request in requests.items()}
        asked = [place for place, found in named.items() if found]
        answers = [self._strange(requests[place].tenant_id, named[place]) for place in asked]
        found = dict(zip(asked, await asyncio.gather(*answers), strict=True))
        return [None if found.get(place) else item for place, item in enumerate(read)]

    def _read(self, record: Record) -> _Item:
        try:
            if record.topic == INPUTS.name:
                return self._input(record)
            return read_event(record.value)
        except (Corrupt, KeyError, ValueError, RecursionError, msgspec.DecodeError) as error:
            # Every bad record of a busy publisher would fill the log: the worker reports each one.
            _log.debug("record_left_out", source=_place(record), error=type(error).__name__)
            return None

    def _input(self, record: Record) -> Input | None:
        about = envelope.read(record.headers)
        request = admit(about.type, record.value, record.received_at)
        same = record.key == request.session_id.encode() and about.subject == request.session_id
        if not same or not self._knows(request.tenant_id):
            return None
        # Clients read our times, as the events will have them; the publisher's own is on the log.
        by_gateway = about.source == envelope.GATEWAY
        at = received(request, record.received_at, by_gateway=by_gateway)
        trace_id = telemetry.trace_id_of(about.traceparent)
        return request if at == request.at else replace(request, at=at), trace_id


def _apply_one(projection: Projection, record: Record, item: Input | Event | None) -> None:
    try:
        if isinstance(item, Event):
            projection.event(item)
        elif item is not None:
            projection.request(*item)
    except UNUSABLE as error:
        # The worker wrote it, so this is a bug of ours; one session's page must not stop the others.
        _log.error(
            "event_not_applied",
            source=_place(record),
            error=str(error),
        )


def _place(record: Record) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"
