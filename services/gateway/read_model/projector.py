"""Brings the topics into the gateway's tables, batch by batch: read, apply, write, then commit the offsets.

A batch that was written but not committed is applied again and changes nothing (`last_seq`, `seq`).
Inputs that nobody could use are left to the agent-worker, which dead-letters them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from services.gateway.ports import ReadModel, Record, RecordConsumer, TurnKey
from services.gateway.read_model.project import UNUSABLE, Projection
from shared import logs, metrics, telemetry
from shared.bus import envelope
from shared.bus.topics import INPUTS
from shared.errors import Corrupt, Transient
from shared.session.admission import admit, received
from shared.session.events import Event, read_event
from shared.session.inputs import Request, TurnRequested
from shared.session.key import SessionKey

POLL_SECONDS = 1.0
FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0
Input = tuple[Request, str, str]  # what was asked, its trace, its id if a gateway gave it


class _Heading(Struct, frozen=True):
    """Which session or turn an input asks for; the rest is not even looked at."""

    tenant_id: str
    session_id: str
    turn_id: str | None = None


_heading = msgspec.json.Decoder(_Heading)
_WRITTEN = (b"turn.requested", b"session.requested")
_log = logs.get("gateway.projector")


class Projector:
    """One consumer, one writer.

    `knows` returns whether a tenant is served here; `written` whether this process wrote the row of a session or
    turn already: most inputs were accepted here, and reading them again would cost as much as accepting. `behind`
    is called with sessions whose states have to be folded anew.
    """

    def __init__(
        self,
        consumer: RecordConsumer,
        read_model: ReadModel,
        knows: Callable[[str], bool],
        written: Callable[[SessionKey | TurnKey], bool] = lambda _: False,
        behind: Callable[[Iterable[SessionKey]], None] = lambda _: None,
    ) -> None:
        self._consumer = consumer
        self._read_model = read_model
        self._knows = knows
        self._written = written
        self._behind = behind

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
        """One batch. Raises Transient with nothing committed; the batch will come again."""
        records = await self._consumer.batch(POLL_SECONDS)
        if not records:
            return
        await self._apply(records)
        await self._consumer.commit()

    async def _apply(self, records: Sequence[Record]) -> None:
        found = [(record, self._read(record)) for record in records if not self._is_written(record)]
        requests = [item for _, item in found if isinstance(item, tuple)]
        events = [item for _, item in found if isinstance(item, Event)]
        keys = {(e.tenant_id, e.session_id) for e in events}
        keys |= {(request.tenant_id, request.session_id) for request, *_ in requests}
        if not keys:
            return
        asked = {
            (r.tenant_id, r.session_id, r.turn_id)
            for r, *_ in requests
            if isinstance(r, TurnRequested)
        }
        projection = Projection(*await self._read_model.load(keys, asked))
        for record, item in found:
            _apply_one(projection, record, item)
        await self._read_model.save(projection.finish())
        self._behind(projection.behind)
        metrics.inc("turnstile_inputs_projected_total", len(requests))
        metrics.inc("turnstile_events_projected_total", len(events))

    def _is_written(self, record: Record) -> bool:
        kind = next((value for name, value in record.headers if name == "ce_type"), b"")
        if record.topic != INPUTS.name or kind not in _WRITTEN:
            return False
        try:
            what = _heading.decode(record.value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        session = (what.tenant_id, what.session_id)
        if kind == b"session.requested":
            return self._written(session)
        return what.turn_id is not None and self._written((*session, what.turn_id))

    def _read(self, record: Record) -> Input | Event | None:
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
        return replace(request, at=at), trace_id, about.id if by_gateway else ""


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
