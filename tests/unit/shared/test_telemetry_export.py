"""How spans wait, are tried again, and are given up: bounded, counted, never in the service's way."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from shared import metrics, span_export
from shared.span_export import ClickHouseSpans, SpanQueue, json_rows, row
from shared.span_light import LightSpan
from shared.traceparent import read

pytestmark = pytest.mark.unit

RESOURCE = Resource({"service.name": "svc"})
SCOPE = InstrumentationScope("turnstile")
CONTEXT = read("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
PARENT = read("00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01")


def light(name: str = "chat") -> LightSpan:
    attributes = {"text": "a", "n": 1, "share": 0.5, "ok": True, "long": "x" * 5000}
    span = LightSpan(
        name, CONTEXT, PARENT, SpanKind.CLIENT, attributes, [Link(PARENT)], 1_000_000_001, print
    )
    span.set_status(Status(StatusCode.ERROR, "words"))
    return span


def readable() -> ReadableSpan:
    span = light()
    span._end = 1_500_000_001
    return span.readable(RESOURCE, SCOPE)


def dropped(reason: str) -> float:
    return metrics.read("turnstile_spans_dropped_total", {"reason": reason})


def test_a_row_is_what_the_collector_would_write() -> None:
    found = row(readable())
    assert found["Timestamp"] == "1.000000001"
    assert found["Duration"] == 500_000_000
    assert found["TraceId"] == "0af7651916cd43dd8448eb211c80319c"
    assert (found["SpanId"], found["ParentSpanId"]) == ("b7ad6b7169203331", "00f067aa0ba902b7")
    assert (found["SpanKind"], found["StatusCode"], found["StatusMessage"]) == (
        "Client",
        "Error",
        "words",
    )
    assert found["ServiceName"] == "svc"
    assert found["Links.SpanId"] == ["00f067aa0ba902b7"]
    attributes = found["SpanAttributes"]
    assert {name: attributes[name] for name in ("text", "n", "share", "ok")} == {
        "text": "a",
        "n": "1",
        "share": "0.5",
        "ok": "true",
    }
    assert len(attributes["long"]) == 1024


def test_rows_are_lines_of_json() -> None:
    lines = json_rows([readable(), readable()]).split(b"\n")
    assert [json.loads(line)["SpanName"] for line in lines] == ["chat", "chat"]


class Slow(SpanExporter):
    """Exports when told to."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.go = threading.Event()
        self.busy = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.busy.set()
        self.go.wait(10)
        self.names += [span.name for span in spans]
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.go.set()


def test_a_full_queue_drops_and_counts() -> None:
    slow, before = Slow(), dropped("queue_full")
    queue = SpanQueue(slow, RESOURCE, SCOPE, limit=3, batch=1, every=0.01)
    queue.put(light("first"))
    assert slow.busy.wait(5)
    began = time.perf_counter()
    for _ in range(5):
        queue.put(light("next"))
    assert time.perf_counter() - began < 1, "putting never waits"
    assert dropped("queue_full") - before == 2
    slow.go.set()
    assert queue.force_flush()
    assert slow.names == ["first", "next", "next", "next"]
    queue.shutdown(1)


def test_shutdown_is_bounded_and_counts_what_is_lost() -> None:
    class Stuck(Slow):
        def shutdown(self) -> None: ...

    stuck, before = Stuck(), dropped("stopped")
    queue = SpanQueue(stuck, RESOURCE, SCOPE, batch=1, every=0.01)
    queue.put(light())
    assert stuck.busy.wait(5)
    queue.put(light())
    began = time.perf_counter()
    queue.shutdown(0.2)
    assert time.perf_counter() - began < 1
    queue.put(light())
    assert dropped("stopped") - before == 2
    stuck.go.set()


def test_an_exporter_that_raises_does_not_end_the_queue() -> None:
    class Broken(Slow):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            if spans[0].name == "bad":
                raise RuntimeError("broken")
            return super().export(spans)

    broken, before = Broken(), dropped("refused")
    broken.go.set()
    queue = SpanQueue(broken, RESOURCE, SCOPE, batch=1, every=0.01)
    queue.put(light("bad"))
    queue.put(light("good"))
    assert queue.force_flush()
    assert broken.names == ["good"]
    assert dropped("refused") - before == 1
    queue.shutdown(1)


def test_what_comes_during_an_export_does_not_make_small_ones() -> None:
    class Watched(SpanExporter):
        def __init__(self) -> None:
            self.sizes: list[int] = []
            self.twice = threading.Event()

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            self.sizes.append(len(spans))
            if len(self.sizes) == 1:
                queue.put(light("came meanwhile"))
            else:
                self.twice.set()
            return SpanExportResult.SUCCESS

    watched = Watched()
    queue = SpanQueue(watched, RESOURCE, SCOPE, batch=3, every=60)
    for _ in range(3):
        queue.put(light())
    assert not watched.twice.wait(0.2), "a span alone waits for its time"
    for _ in range(2):
        queue.put(light())
    assert watched.twice.wait(5)
    assert watched.sizes == [3, 3]
    queue.shutdown(1)


class Answers:
    """An HTTP server that answers what it is told; keeps paths, headers and bodies."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, str]] = []
        self.requests: list[tuple[str, str, bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append((self.path, self.headers["Authorization"], body))
                status, code = outer.answers.pop(0) if outer.answers else (200, "")
                self.send_response(status)
                if code:
                    self.send_header("X-ClickHouse-Exception-Code", code)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://us%40er:p%3Ass@127.0.0.1:{self.server.server_port}/archive"


@pytest.fixture
def clickhouse() -> Iterator[Answers]:
    answers = Answers()
    yield answers
    answers.server.shutdown()
    answers.server.server_close()


def exporter(url: str, stop_after: int = 100) -> ClickHouseSpans:
    """Pauses are not waited for; the exporter is told to stop after so many."""
    pauses: list[float] = []

    def pause(seconds: float) -> bool:
        pauses.append(seconds)
        return len(pauses) >= stop_after

    return ClickHouseSpans(url, pause=pause, chance=lambda: 0.5)


def test_spans_are_inserted_with_user_and_database(clickhouse: Answers) -> None:
    assert exporter(clickhouse.url).export([readable()]) is SpanExportResult.SUCCESS
    path, authorization, body = clickhouse.requests[0]
    assert "database=archive" in path
    assert "INSERT+INTO+otel_traces" in path
    assert authorization == "Basic dXNAZXI6cDpzcw=="
    assert json.loads(body)["SpanName"] == "chat"


@pytest.mark.parametrize("answer", [(503, ""), (500, "202"), (404, "60"), (404, "81"), (429, "")])
def test_what_passes_is_tried_again(clickhouse: Answers, answer: tuple[int, str]) -> None:
    clickhouse.answers = [answer] * 3
    assert exporter(clickhouse.url).export([readable()]) is SpanExportResult.SUCCESS
    assert len(clickhouse.requests) == 4
    assert len({body for _, _, body in clickhouse.requests}) == 1


@pytest.mark.parametrize("answer", [(400, "27"), (403, "516"), (404, "16"), (500, "1002")])
def test_what_does_not_pass_is_dropped(clickhouse: Answers, answer: tuple[int, str]) -> None:
    before = dropped("refused")
    clickhouse.answers = [answer]
    assert exporter(clickhouse.url).export([readable()]) is SpanExportResult.FAILURE
    assert len(clickhouse.requests) == 1
    assert dropped("refused") - before == 1


def test_nobody_there_is_given_up_when_stopped_or_out_of_patience(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = dropped("away")
    url = "http://127.0.0.1:9/turnstile"
    assert exporter(url, stop_after=3).export([readable()]) is SpanExportResult.FAILURE
    monkeypatch.setattr(span_export, "PATIENCE_S", 2.0)
    assert exporter(url).export([readable()]) is SpanExportResult.FAILURE
    assert dropped("away") - before == 2
