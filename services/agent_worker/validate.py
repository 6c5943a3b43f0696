"""Checks that a record on the inputs topic is a request of ours. Pure: a record in, a NewInput or the reason why
not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

import msgspec
from msgspec import Struct

from services.agent_worker.ports import NewInput
from shared.bus.envelope import GATEWAY, GATEWAY_ID, Envelope, read
from shared.errors import Corrupt
from shared.session.admission import admit, received
from shared.session.field_error import field_and_fix
from shared.session.inputs import REQUESTS, Request, TurnDropped, TurnRequested


class Record(Struct, frozen=True):
    """A Kafka record, as far as it matters here. `source` is `topic/partition/offset`, `received_at` when it
    came by a clock of ours ("": nobody says)."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    source: str
    received_at: str = ""


# A record nobody can use, and why.
Bad = tuple[Record, Corrupt]


def validated(record: Record, knows: Callable[[str], bool]) -> NewInput:
    """The input a record asks to file; `knows` tells whether a tenant is served here.

    Raises Corrupt with a stable reason and a detail that names the field.
    """
    envelope = read(record.headers)
    if envelope.type not in REQUESTS:
        kinds = ", ".join(REQUESTS)
        raise Corrupt("unknown_type", f"ce_type {envelope.type!r} is none of {kinds}")
    request = _request(envelope.type, record)
    _check(request, envelope, record.key)
    # Whoever drops a letter of a tenant that is not served any more is done with it.
    if not knows(request.tenant_id) and not isinstance(request, TurnDropped):
        raise Corrupt("unknown_tenant", f"tenant_id {request.tenant_id!r} is not served here")
    input_id, formerly = _input_ids(request, envelope)
    return NewInput(
        key=(request.tenant_id, request.session_id),
        input_id=input_id,
        kind=envelope.type,
        body=record.value or b"",
        traceparent=envelope.traceparent,
        received_at=received(request, record.received_at, by_gateway=envelope.source == GATEWAY),
        formerly=formerly,
    )


def _request(kind: str, record: Record) -> Request:
    try:
        return admit(kind, record.value or b"", record.received_at)
    except msgspec.ValidationError as error:
        field, fix = field_and_fix(error)
        raise Corrupt("invalid_field", f"{fix} - at `$.{field}`" if field else fix) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt("invalid_json", str(error)) from error


def _check(request: Request, envelope: Envelope, key: bytes | None) -> None:
    session = request.session_id
    if envelope.subject != session:
        raise Corrupt("subject_mismatch", f"ce_subject is not session_id {session!r}")
    if key != session.encode():
        raise Corrupt("key_mismatch", f"the record's key is not session_id {session!r}")


def _input_ids(request: Request, envelope: Envelope) -> tuple[str, str]:
    """Under which id the inbox has the input, and under which it did before publishers were told apart.

    A turn's identity is its turn id, whoever publishes it and however often. Anything else's is `ce_source` and
    `ce_id` together: the gateway's stand as they always did, which nobody else's can be taken for.
    """
    if isinstance(request, TurnRequested):
        return f"turn:{request.turn_id}", ""
    plain = f"ce:{envelope.id}"
    if envelope.source == GATEWAY:
        return plain, ""
    source = sha256(envelope.source.encode()).hexdigest()[:16]
    return f"from:{source}:{envelope.id}", "" if GATEWAY_ID.fullmatch(envelope.id) else plain
