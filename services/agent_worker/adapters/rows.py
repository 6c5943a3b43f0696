"""Head rows to and from bytes."""

from __future__ import annotations

from typing import Any

import msgspec

from services.agent_worker.ports import Head, Key
from shared.session import commands, state
from shared.session.events import Event, read_event

_packed = msgspec.msgpack.Decoder(list[bytes])


def pack(events: tuple[Event, ...]) -> bytes:
    """Events as the row keeps them: their exact JSON, so that saying them again says the same bytes."""
    return msgspec.msgpack.encode([msgspec.json.encode(event) for event in events])


def unpack(data: bytes) -> tuple[Event, ...]:
    """The events of a row."""
    return tuple(read_event(value) for value in _packed.decode(data)) if data else ()


def head_of(row: Any) -> Head:
    """A claimed row (any object with the columns as attributes) as a Head."""
    key: Key = (row.tenant_id, row.session_id)
    return Head(
        key=key,
        epoch=row.epoch,
        version=row.version,
        state=state.decode(row.state) if row.state else state.initial(*key),
        unsaid=unpack(row.unsaid),
        todo=commands.decode(row.todo) if row.todo else (),
        position=row.position,
        taken=row.taken,
    )


def columns_of(head: Head) -> dict[str, Any]:
    """What a write sets, and what it is guarded by."""
    return {
        "tenant_id": head.key[0],
        "session_id": head.key[1],
        "epoch": head.epoch,
        "version": head.version,
        "state": state.encode(head.state),
        "unsaid": pack(head.unsaid),
        "todo": commands.encode(head.todo) if head.todo else b"",
        "taken": head.taken,
        "position": head.position,
    }
