"""Trace contexts as texts: what is carried, and what W3C Trace Context has one leave out."""

from __future__ import annotations

import logging

import pytest

from shared import telemetry
from shared.bus.envelope import Envelope, traceparent_of
from shared.bus.envelope import read as read_headers
from shared.trace_context import MAX_MEMBERS, MAX_STATE, joined, parted
from shared.traceparent import read, write
from tests.builders import TRACEPARENT
from tests.tracing import text_of, tracing

pytestmark = pytest.mark.unit
STATE = "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
FULL = ",".join(f"k{n}={'v' * 8}" for n in range(MAX_MEMBERS))


@pytest.mark.parametrize(
    ("given", "carried"),
    [
        (STATE, STATE),
        (" congo=a\t, ,rojo=b ", "congo=a,rojo=b"),
        ("fw529a3039@dt=FfAAAA x", "fw529a3039@dt=FfAAAA x"),
        (FULL, FULL),
        ("k=" + "v" * 256, "k=" + "v" * 256),
    ],
)
def test_a_sound_list_is_carried_on_and_comes_back(given: str, carried: str) -> None:
    context = joined(TRACEPARENT, given)
    assert parted(context) == (TRACEPARENT, carried)
    assert write(read(context)) == context, "what the SDK knows is the same"


@pytest.mark.parametrize(
    "given",
    [
        "",
        "no-equals",
        "Congo=a",
        "congo=a,congo=b",
        "congo=a=b",
        "congo=",
        "congo=a\n",
        "congo=é",
        "a,b",
        FULL + ",one=more",
        ",".join(f"k{n}={'v' * 250}" for n in range(3)),
    ],
)
def test_what_is_malformed_or_too_large_is_left_out_and_not_spoken_of(
    given: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        context = joined(TRACEPARENT, given)
        assert write(read(context)) == TRACEPARENT
    assert context == TRACEPARENT
    assert caplog.text == ""
    assert len(given) > MAX_STATE or given.count(",") >= MAX_MEMBERS or len(given) < 20


def test_without_a_parent_there_is_no_state() -> None:
    assert joined("", STATE) == ""


def test_records_carry_a_tracestate_in_a_header_of_its_own() -> None:
    envelope = Envelope("1", "s", "turn.requested", "", "ses", joined(TRACEPARENT, STATE))
    headers = dict(envelope.headers())
    assert (headers["traceparent"], headers["tracestate"]) == (TRACEPARENT.encode(), STATE.encode())
    assert read_headers(envelope.headers()).traceparent == envelope.traceparent
    assert traceparent_of(envelope.headers()) == envelope.traceparent
    spoilt = [(n, b"\xff" if n == "tracestate" else v) for n, v in envelope.headers()]
    assert read_headers(spoilt).traceparent == TRACEPARENT


def test_spans_hand_on_the_tracestate_of_their_parent() -> None:
    with tracing() as kept:
        with telemetry.span("provider.send", parent=joined(TRACEPARENT, STATE)):
            inside = telemetry.traceparent()
            with telemetry.span("head.write"):
                pass
        write_span, send = kept.spans()
        assert inside == text_of(send)
        assert [parted(text_of(span))[1] for span in (send, write_span)] == [STATE, STATE]
        assert telemetry.trace_id_of(inside) == TRACEPARENT.split("-")[1]
