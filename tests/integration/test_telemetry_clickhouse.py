"""Spans reach otel_traces of the real engine, and a turn's trace reaches the insert."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest

from infra.clickhouse.migrate import migrate
from shared import metrics, telemetry
from shared.settings import TelemetrySettings
from shared.telemetry import SpanKind, Telemetry
from tests.clickhouse_server import (
    clickhouse_url,
    fresh_database,
    start_clickhouse,
    stop_clickhouse,
)
from tests.integration.recorder_rig import event, rig, until

__all__ = ["clickhouse_url"]
pytestmark = pytest.mark.integration

AT = datetime(2026, 11, 21, 10, 0, 0, 123456, tzinfo=UTC)
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


async def rows(url: str, sql: str) -> list[dict[str, Any]]:
    def run() -> list[dict[str, Any]]:
        client = clickhouse_connect.get_client(dsn=url, autogenerate_session_id=False)
        try:
            return list(client.query(sql).named_results())
        finally:
            client.close()

    return await asyncio.to_thread(run)


@asynccontextmanager
async def tracing(url: str) -> AsyncIterator[Telemetry]:
    settings = TelemetrySettings(otel_exporter_otlp_endpoint=None)
    running = telemetry.start("svc", "i1", settings, url)
    try:
        yield running
    finally:
        await asyncio.to_thread(running.shutdown)


async def test_a_span_is_a_row_with_all_it_has(clickhouse_url: str) -> None:
    url = fresh_database(clickhouse_url)
    await asyncio.to_thread(migrate, url, say=lambda _: None)
    async with tracing(url) as running:
        made = telemetry.record(
            "chat",
            parent=PARENT,
            start=AT,
            end=AT.replace(second=2),
            kind=SpanKind.CLIENT,
            attributes={"gen_ai.usage.input_tokens": 5, "gen_ai.request.model": "é😀"},
            links=[PARENT],
            error="overloaded",
        )
        with telemetry.span("provider.send", parent=made) as span:
            span.add_event("retry", {"attempt": 2})
        assert await asyncio.to_thread(running.flush)
    sql = f"SELECT *, toString(Timestamp) AS at FROM otel_traces WHERE TraceId = '{TRACE}'"
    chat, send = await rows(url, f"{sql} ORDER BY SpanName")
    assert chat["at"].startswith("2026-11-21 10:00:00.123456")
    assert chat["Duration"] == 2 * 10**9
    assert (chat["SpanKind"], chat["StatusCode"], chat["ServiceName"]) == ("Client", "Error", "svc")
    assert chat["SpanAttributes"] == {
        "gen_ai.usage.input_tokens": "5",
        "gen_ai.request.model": "é😀",
        "error.type": "overloaded",
    }
    assert chat["ParentSpanId"] == "b7ad6b7169203331"
    assert chat["Links.SpanId"] == ["b7ad6b7169203331"]
    assert chat["ResourceAttributes"]["service.instance.id"] == "i1"
    assert send["ParentSpanId"] == chat["SpanId"] == made[36:52]
    assert send["Events.Name"] == ["retry"]
    assert send["Events.Attributes"] == [{"attempt": "2"}]


async def test_spans_wait_while_clickhouse_is_away(tmp_path: Path) -> None:
    server = await asyncio.to_thread(start_clickhouse, tmp_path)
    try:
        await asyncio.to_thread(migrate, server.url, say=lambda _: None)
        await asyncio.to_thread(stop_clickhouse, server)
        before = metrics.read("turnstile_spans_dropped_total", {"reason": "away"})
        async with tracing(server.url):
            for _ in range(20):
                telemetry.record("chat", parent=PARENT, start=AT, end=AT)
            server = await asyncio.to_thread(start_clickhouse, tmp_path, port=server.port)

            async def count() -> int:
                return int((await rows(server.url, "SELECT count() AS n FROM otel_traces"))[0]["n"])

            await until(count, lambda found: found == 20)
        assert metrics.read("turnstile_spans_dropped_total", {"reason": "away"}) == before
    finally:
        await asyncio.to_thread(stop_clickhouse, server)


async def test_a_turns_trace_reaches_the_insert(kafka_bootstrap: str, clickhouse_url: str) -> None:
    own = await rig(kafka_bootstrap, clickhouse_url)
    data = b'{"turn_id":"turn_1","status":"completed"}'
    await own.publish(
        [event(1), event(2, type="turn.completed", data=data)], [("traceparent", PARENT.encode())]
    )
    async with tracing(own.url) as running:
        async with own.recording():
            await until(own.committed, lambda offset: offset == 2)
        assert await asyncio.to_thread(running.flush)
    found = await rows(own.url, f"SELECT * FROM otel_traces ORDER BY SpanName, TraceId = '{TRACE}'")
    below_batch, in_turn, batch = found
    assert [span["SpanName"] for span in found] == [
        "INSERT session_events",
        "INSERT session_events",
        "process turnstile.events.v1",
    ]
    assert (in_turn["TraceId"], in_turn["ParentSpanId"]) == (TRACE, "b7ad6b7169203331")
    assert in_turn["Links.SpanId"] == [batch["SpanId"]]
    assert in_turn["SpanAttributes"]["db.operation.batch.size"] == "2"
    assert below_batch["ParentSpanId"] == batch["SpanId"]
    assert batch["ParentSpanId"] == ""
    assert batch["TraceId"] != TRACE
    assert set(batch["Links.TraceId"]) == {TRACE}
