"""The input that makes a session wait for a turn that nobody can use. Pure."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import Struct

from services.agent_worker.ports import NewInput
from services.agent_worker.validate import Record
from shared.bus.envelope import traceparent_of
from shared.clock import Clock
from shared.errors import Corrupt
from shared.moment import rfc3339
from shared.session.inputs import PARKED, Id, TurnParked

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


def parked(record: Record, error: Corrupt, clock: Clock) -> NewInput | None:
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
