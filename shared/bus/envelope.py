"""CloudEvents 1.0 in Kafka's binary mode: attributes in `ce_*` headers, the JSON value as it is.

Source: CloudEvents Kafka protocol binding 1.0.2, section 3.2; `traceparent` and `tracestate` are W3C
Trace Context's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from msgspec import Struct

from shared.errors import Corrupt
from shared.trace_context import MAX_PARENT, joined, parted

SPEC_VERSION = "1.0"
_TRACE = ("traceparent", "tracestate")
# Characters. What readers keep of an id; a cut one could be taken for another.
MAX_ID = 256
JSON = "application/json"
Headers = list[tuple[str, bytes]]
_NAMES = (
    "ce_specversion",
    "ce_id",
    "ce_source",
    "ce_type",
    "ce_time",
    "ce_subject",
    "content-type",
    "traceparent",
)
_VERSION: tuple[str, bytes] = ("ce_specversion", SPEC_VERSION.encode())
_TYPE: tuple[str, bytes] = ("content-type", JSON.encode())
# `ce_source` of what Turnstile's own services publish; the agent-worker adds the tenant behind a slash.
GATEWAY, AGENT_WORKER, OPERATOR = (
    "turnstile/gateway",
    "/turnstile/agent-worker",
    "/turnstile/operator",
)
# The form of the `ce_id`s that the gateway makes.
GATEWAY_ID = re.compile(r"in_[0-9a-f]{32}")
# CloudEvents 1.0 allows none in an attribute (section "Type System"); PostgreSQL takes no zero byte in a text.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Envelope(Struct, frozen=True, gc=False):
    """One record's attributes. `time` is RFC 3339 in UTC; `subject` is the session id and the record's key;
    `traceparent` is the text of a trace context (`shared.trace_context`), "" for none."""

    id: str
    source: str
    type: str
    time: str
    subject: str
    traceparent: str = ""
    extra: Mapping[str, str] = {}

    def headers(self) -> Headers:
        """The Kafka headers of a record that carries this envelope."""
        headers = [
            _VERSION,
            ("ce_id", self.id.encode()),
            ("ce_source", self.source.encode()),
            ("ce_type", self.type.encode()),
            ("ce_time", self.time.encode()),
            ("ce_subject", self.subject.encode()),
            _TYPE,
        ]
        if self.traceparent:
            parent, state = parted(self.traceparent)
            headers.append(("traceparent", parent.encode()))
            if state:
                headers.append(("tracestate", state.encode()))
        if self.extra:
            headers += [(name, value.encode()) for name, value in self.extra.items()]
        return headers


def read(headers: Sequence[tuple[str, bytes]]) -> Envelope:
    """The envelope of a record's headers.

    A `traceparent` or `tracestate` that is none counts as not there, as W3C Trace Context has it. Raises Corrupt
    (`missing_header`, `bad_header`) naming the header.
    """
    known = _ours(headers)
    if known is not None:
        return known
    found = {name.lower(): value for name, value in headers if value is not None}
    version = _text(found, "ce_specversion")
    if version != SPEC_VERSION:
        raise Corrupt(
            "bad_header", f"ce_specversion is {version!r}; this reader knows {SPEC_VERSION}"
        )
    id = _text(found, "ce_id")
    if len(id) > MAX_ID:
        raise Corrupt("bad_header", f"ce_id is longer than {MAX_ID} characters")
    return Envelope(
        id=id,
        source=_text(found, "ce_source"),
        type=_text(found, "ce_type"),
        time=_text(found, "ce_time", needed=False),
        subject=_text(found, "ce_subject"),
        traceparent=joined(*(_printable(found.get(name, b"")) for name in _TRACE)),
    )


def _ours(headers: Sequence[tuple[str, bytes]]) -> Envelope | None:
    """The envelope of headers as `Envelope.headers` writes them, in that order, with nothing wrong about them; None
    for any others, which are read one by one."""
    try:
        names, values = zip(*headers, strict=True)
        if names != _NAMES or values[0] != _VERSION[1]:
            return None
        text = b"\n".join(values).decode("ascii")
        _, id, source, kind, time, subject, _, parent = text.split("\n")
    except (TypeError, ValueError):
        return None
    whole = id and source and kind and subject and len(id) <= MAX_ID and len(parent) <= MAX_PARENT
    if not whole or not text.replace("\n", "").isprintable() or " " in parent:
        return None
    return Envelope(id, source, kind, time, subject, parent)


def source_of(headers: Sequence[tuple[str, bytes]]) -> str:
    """The `ce_source` of a record that need not be one of ours; "" when nobody says."""
    found = (value for name, value in headers if name.lower() == "ce_source" and value)
    return next(found, b"").decode("utf-8", "replace")


def traceparent_of(headers: Sequence[tuple[str, bytes]]) -> str:
    """The trace context of a record that need not be one of ours; "" when there is none or it is no text."""
    found = {
        lower: _printable(value)
        for name, value in headers
        if value is not None and (lower := name.lower()) in _TRACE
    }
    return joined(*(found.get(name, "") for name in _TRACE))


def _text(headers: Mapping[str, bytes], name: str, *, needed: bool = True) -> str:
    raw = headers.get(name, b"")
    if not raw and needed:
        raise Corrupt(
            "missing_header", f"header {name} is missing; CloudEvents binary mode needs it"
        )
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise Corrupt("bad_header", f"header {name} is not UTF-8: {error}") from error
    if not text.isprintable() and _CONTROL.search(text):  # what is printable holds none
        raise Corrupt("bad_header", f"header {name} holds a control character")
    return text


def _printable(raw: bytes) -> str:
    text = raw.decode("ascii", "replace")
    return text if text.isascii() and text.isprintable() else ""


def dead_letter(
    headers: Sequence[tuple[str, bytes]],
    *,
    reason: str,
    detail: str,
    attempts: int,
    at: str,
    source: str,
) -> Headers:
    """The headers of a dead letter: those it came with, plus why and from where (`topic/partition/offset`).

    Marks of an earlier death are replaced, so that a letter redriven and dead again says why it died last.
    """
    marks = {
        "dead_reason": reason,
        "dead_detail": detail[:2000],
        "dead_attempts": str(attempts),
        "dead_at": at,
        "dead_source": source,
    }
    kept = [(name, value) for name, value in headers if name not in marks]
    return kept + [(name, value.encode()) for name, value in marks.items()]


def erasure_mark(tenant_id: str, at: str) -> Headers:
    """The headers of a record on the dead letters' topic that is no letter: all letters of the session that is its
    key, of this tenant, must not be read or redriven, whether they came before it or come after."""
    return [
        ("dead_settled", b"erased"),
        ("dead_settled_tenant", tenant_id.encode()),
        ("dead_at", at.encode()),
    ]
