"""Checks that a record on the inputs topic is a request of ours. Pure: a record in, a NewInput or the reason why
not.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import TypeVar

import msgspec
from msgspec import Struct

from services.agent_worker.ports import InputRecord, NewInput
from shared.bus.envelope import GATEWAY, GATEWAY_ID, Envelope, read, traceparent_of
from shared.clock import Clock
from shared.errors import Corrupt
from shared.moment import rfc3339
from shared.ownership import Strange
from shared.session.admission import admit, received
from shared.session.field_error import NO_TEXT, field_and_fix, field_of_half_character
from shared.session.inputs import (
    PARKED,
    REQUESTS,
    Id,
    Request,
    TurnDropped,
    TurnParked,
    TurnRequested,
)
from shared.session.references import references

# A record nobody can use, and why.
Bad = tuple[InputRecord, Corrupt]


def validated(record: InputRecord, knows: Callable[[str], bool]) -> NewInput:
    """The input a record asks to file; `knows` returns whether a tenant is served here.

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
        references=references(request),
    )


def estranged(strange: Strange) -> Corrupt:
    """Why a record that refers to what is not its tenant's can't be used."""
    return Corrupt("unknown_reference", f"{strange.words} - at `$.{strange.reference.field}`")


def _request(kind: str, record: InputRecord) -> Request:
    try:
        return admit(kind, record.value or b"", record.received_at)
    except msgspec.ValidationError as error:
        field, fix = field_and_fix(error)
        raise Corrupt("invalid_field", f"{fix} - at `$.{field}`" if field else fix) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        half = field_of_half_character(record.value or b"")
        if half is not None:
            raise Corrupt("invalid_json", f"{NO_TEXT} - at `$.{half}`") from error
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


# On a letter: its session waits for it until it is redriven or dropped.
MARK = "dead_parked"
_T = TypeVar("_T")


class _Turn(Struct):
    tenant_id: Id
    session_id: Id
    turn_id: Id


class _User(Struct):
    user_id: Id


_turn, _user = msgspec.json.Decoder(_Turn), msgspec.json.Decoder(_User)


def parked(record: InputRecord, error: Corrupt, clock: Clock) -> NewInput | None:
    """What makes the record's session wait for it; None for what is no turn, or does not say whose."""
    if ("ce_type", b"turn.requested") not in record.headers:
        return None
    turn = _read(_turn, record.value)
    if turn is None or record.key != turn.session_id.encode():
        return None
    user = _read(_user, record.value)
    request = TurnParked(
        tenant_id=turn.tenant_id,
        session_id=turn.session_id,
        at=rfc3339(clock()),
        turn_id=turn.turn_id,
        user_id=user.user_id if user else "",
        reason=error.reason,
    )
    return NewInput(
        key=(turn.tenant_id, turn.session_id),
        input_id=f"parked:{record.source}",
        kind=PARKED,
        body=msgspec.json.encode(request),
        traceparent=traceparent_of(record.headers),
        received_at=request.at,
    )


def turn_input(new: NewInput) -> str:
    """The id under which the inbox has the turn that is parked, if it took it in before."""
    return f"turn:{_turn.decode(new.body).turn_id}"


def _read(decoder: msgspec.json.Decoder[_T], value: bytes | None) -> _T | None:
    try:
        return decoder.decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
