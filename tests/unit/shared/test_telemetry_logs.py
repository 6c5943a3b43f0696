"""What a log line holds, and what it must not."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from shared import logs, telemetry
from shared.logs import MAX_KEYS, FloodFilter, Scrubber
from shared.settings import TelemetrySettings

pytestmark = pytest.mark.unit

SECRET = 'top"hidden/pass'


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """Logging of this process goes here during the test, and back afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    logs.configure("svc", "INFO", [SECRET], stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_is_json_with_time_level_event_and_service(out: io.StringIO) -> None:
    logs.get("room").info("it happened", count=3)
    (line,) = lines(out)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "event": "it happened",
        "service": "svc",
        "logger": "room",
        "count": 3,
    }


def test_the_level_is_respected(out: io.StringIO) -> None:
    logs.get("room").debug("too much")
    assert lines(out) == []


def test_bound_ids_are_on_every_line_until_the_block_ends(out: io.StringIO) -> None:
    log = logs.get("room")
    with logs.bind(tenant_id="acme", session_id="ses_1"), logs.bind(turn_id="turn_1"):
        log.info("in")
        logging.getLogger("some.library").warning("in too")
    log.info("out")
    ours, theirs, after = lines(out)
    for line in (ours, theirs):
        assert (line["tenant_id"], line["session_id"], line["turn_id"]) == (
            "acme",
            "ses_1",
            "turn_1",
        )
    assert "tenant_id" not in after


def test_lines_inside_a_span_carry_its_ids(out: io.StringIO) -> None:
    settings = TelemetrySettings(otel_exporter_otlp_endpoint=None)
    running = telemetry.start("svc", "1", settings, None)
    with telemetry.span("provider.send"):
        parent = telemetry.traceparent()
        logs.get("room").info("in")
    running.shutdown()
    (line,) = lines(out)
    assert f"00-{line['trace_id']}-{line['span_id']}" == parent[:52]


def test_secrets_are_masked_everywhere(out: io.StringIO) -> None:
    log = logs.get("room")
    log.info(
        f"connecting to http://u:{SECRET}@host",
        url="x%22 top%22hidden%2Fpass",
        deep={"k": [SECRET]},
    )
    logging.getLogger("library").error("failed: %s", SECRET)
    try:
        raise ValueError(SECRET)
    except ValueError:
        log.exception("bad")
    assert "hidden" not in out.getvalue()
    assert len(lines(out)) == 3
    assert "hidden" not in logs.scrub(f"ConnectionError: {SECRET}")


def test_exceptions_are_one_line(out: io.StringIO) -> None:
    try:
        raise ValueError("why")
    except ValueError:
        logs.get("room").exception("bad")
    (line,) = lines(out)
    assert "ValueError: why" in line["exception"]


def test_long_values_are_cut(out: io.StringIO) -> None:
    logs.get("room").info("long", text="x" * 100_000)
    assert len(out.getvalue()) < 3000


def test_a_flood_of_a_library_is_one_line_and_a_count() -> None:
    now = [0.0]
    flood = FloodFilter(window=10, clock=lambda: now[0])

    def passes(name: str, text: str) -> logging.LogRecord | None:
        record = logging.LogRecord(name, logging.ERROR, "", 1, text, (), None)
        return record if flood.filter(record) else None

    assert passes("aiokafka.conn", "Unable connect to %s") is not None
    for _ in range(500):
        assert passes("aiokafka.conn", "Unable connect to %s") is None
    assert passes("aiokafka.conn", "something else") is not None
    assert passes("turnstile", "ours") is not None
    assert passes("turnstile", "ours") is not None
    now[0] = 10.0
    again = passes("aiokafka.conn", "Unable connect to %s")
    assert again is not None
    assert again.__dict__["repeated"] == 500


def test_the_flood_filter_is_bounded() -> None:
    flood = FloodFilter(window=10, clock=lambda: 0.0)
    for number in range(MAX_KEYS * 2):
        record = logging.LogRecord("aiokafka", logging.ERROR, "", 1, f"text {number}", (), None)
        assert flood.filter(record)
    assert len(flood._flood._seen) == MAX_KEYS


def test_repeats_are_said_in_the_line(out: io.StringIO) -> None:
    for _ in range(3):
        logging.getLogger("aiokafka.conn").error("Unable connect to %s", "host")
    (line,) = lines(out)
    assert line["event"] == "Unable connect to host"


def test_a_scrubber_without_secrets_changes_nothing() -> None:
    assert Scrubber(())("text") == "text"
    assert Scrubber(("", "ab"))("ab and more") == "ab and more"


def test_a_secret_inside_another_leaves_nothing_behind() -> None:
    assert Scrubber(("secret", "secret-and-more"))("secret-and-more secret") == "*** ***"
