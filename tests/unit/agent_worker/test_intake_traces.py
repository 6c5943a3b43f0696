"""Every input that is filed has a trace: its publisher's, else one that begins at intake."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import cast

import msgspec
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.agent_worker.inbox.intake import Intake
from services.agent_worker.inbox.validate import Bad
from services.agent_worker.ports import InputRecord, NewInput, Store
from shared import telemetry
from shared.bus.brake import IntakeBrake
from shared.bus.envelope import Envelope
from shared.session.key import SessionKey
from shared.settings import TelemetrySettings

pytestmark = pytest.mark.unit
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
AT = "2026-11-21T12:00:00Z"


class Tracing:
    """Telemetry whose spans are looked at."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        settings = TelemetrySettings(otel_exporter_otlp_endpoint=None)
        self.telemetry = telemetry.start("svc", "i1", settings, None, exporter=self._exporter)

    async def one(self) -> ReadableSpan:
        """The only span that ended."""
        assert await asyncio.to_thread(self.telemetry.flush)
        [span] = self._exporter.get_finished_spans()
        return span


@pytest.fixture
async def tracing() -> AsyncIterator[Tracing]:
    running = Tracing()
    yield running
    await asyncio.to_thread(running.telemetry.shutdown)


class Inbox:
    """Keeps what is filed."""

    def __init__(self) -> None:
        self.filed: list[NewInput] = []

    async def file(self, inputs: Sequence[NewInput]) -> set[SessionKey]:
        self.filed += inputs
        return {new.key for new in inputs}


class Once:
    """One batch, then nothing any more."""

    def __init__(self, records: list[InputRecord]) -> None:
        self._records = records
        self.done = asyncio.Event()

    async def batch(self) -> Sequence[InputRecord]:
        if self.done.is_set():
            await asyncio.Event().wait()
        return self._records

    async def commit(self) -> None:
        self.done.set()

    async def leave(self) -> None:
        raise AssertionError("nothing was wrong")


async def filed(traceparent: str) -> NewInput:
    """What intake files of an interrupt that came with that header."""
    envelope = Envelope("in_1", "test", "interrupt.requested", AT, "ses_1", traceparent)
    value = msgspec.json.encode({"tenant_id": "acme", "session_id": "ses_1", "at": AT})
    inputs, inbox = Once([InputRecord(b"ses_1", value, envelope.headers(), "t/0/0")]), Inbox()

    async def bury(bad: Sequence[Bad]) -> None:
        raise AssertionError(str(bad))

    intake = Intake(
        inputs,
        cast(Store, inbox),
        bury=bury,
        knows=lambda _: True,
        news=lambda _: None,
        brake=IntakeBrake(ratio=0.5, window=1_000),
        pause=15.0,
    )
    running = asyncio.create_task(intake.run())
    await asyncio.wait_for(inputs.done.wait(), 10)
    running.cancel()
    [new] = inbox.filed
    return new


async def test_a_publishers_trace_goes_on(tracing: Tracing) -> None:
    assert (await filed(PARENT)).traceparent == PARENT
    span = await tracing.one()
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == PARENT.split("-")[2]


@pytest.mark.parametrize("header", ["", "00-zz", PARENT.replace("0af7", "xxxx")])
async def test_without_a_publishers_trace_one_begins_at_intake(
    tracing: Tracing, header: str
) -> None:
    made = (await filed(header)).traceparent
    span = await tracing.one()
    context = span.get_span_context()
    assert span.parent is None
    assert context is not None
    assert made.startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")


async def test_nothing_is_made_up_when_nobody_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "_tracer", None)
    assert (await filed("")).traceparent == ""
