"""A dead letter, decoded. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from aiokafka.structs import ConsumerRecord
from msgspec import Struct

from services.operator.printable import in_columns
from shared.session.key import SessionKey

MARKS = ("dead_reason", "dead_detail", "dead_attempts", "dead_at", "dead_source")
# Its record was too large with its marks and lies in the letter without its value (see the recorder).
CUT = "dead_value_bytes"
# A record with these headers and no value is no letter but says what became of one in its own partition: it lives
# as long as the letter does, and needs no table.
SETTLED, SETTLED_OFFSET = "dead_settled", "dead_settled_offset"
# One with this header says so of all letters of the session that is its key and of the tenant it names: the session
# was erased (the recorder writes it).
SETTLED_TENANT = "dead_settled_tenant"
# Its session waits for it (the worker's TURNSTILE_PARK_SESSIONS).
PARKED = "dead_parked"
DETAIL_WIDTH = 70


class _Whose(Struct):
    tenant_id: str = ""


_whose = msgspec.json.Decoder(_Whose)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be used, as it lies among the dead letters. `value` is None when it was not asked
    for; `timestamp` is Kafka's, in ms; `tenant` is "" where the value does not tell."""

    partition: int
    offset: int
    timestamp: int
    key: str
    headers: tuple[tuple[str, str], ...]
    size: int
    value: bytes | None = None
    tenant: str = ""

    def header(self, name: str) -> str:
        """The last header of that name, or nothing."""
        return next((value for key, value in reversed(self.headers) if key == name), "")

    @property
    def reason(self) -> str:
        return self.header("dead_reason")

    @property
    def place(self) -> str:
        """`PARTITION/OFFSET`, by which commands name it."""
        return f"{self.partition}/{self.offset}"

    @property
    def topic(self) -> str:
        """The topic it died on; nothing when its source is no place on a topic."""
        parts = self.header("dead_source").rsplit("/", 2)
        return parts[0] if len(parts) == 3 else ""

    @property
    def settles(self) -> int | None:
        """The offset of the letter this record settles; None for a letter."""
        offset = self.header(SETTLED_OFFSET)
        return int(offset) if self.header(SETTLED) and offset.isdecimal() else None

    @property
    def erases(self) -> SessionKey | None:
        """Tenant and session whose letters this record settles, all of them; None for a letter."""
        tenant = self.header(SETTLED_TENANT)
        return (tenant, self.key) if self.header(SETTLED) and tenant else None

    def is_of(self, sessions: Collection[SessionKey]) -> bool:
        """Whether it is, or may be, a letter of one of these sessions (tenant and id)."""
        if self.tenant:
            return (self.tenant, self.key) in sessions
        return any(session == self.key for _, session in sessions)

    def as_json(self) -> dict[str, Any]:
        """Everything, for other programs; a value that is no UTF-8 is written with replacements."""
        found: dict[str, Any] = {
            "partition": self.partition,
            "offset": self.offset,
            "key": self.key,
            "reason": self.reason,
            "detail": self.header("dead_detail"),
            "attempts": self.header("dead_attempts"),
            "at": self.header("dead_at"),
            "source": self.header("dead_source"),
            "headers": [[name, value] for name, value in self.headers if name not in MARKS],
            "bytes": self.size,
        }
        if self.value is not None:
            found["value"] = self.value.decode("utf-8", "replace")
        return found


def dead_letter_of(record: ConsumerRecord[Any, Any], *, with_value: bool) -> DeadLetter:
    """The letter in a record. Headers and keys of any bytes are taken: this is where bad records end."""
    value = record.value or b""
    return DeadLetter(
        partition=record.partition,
        offset=record.offset,
        timestamp=record.timestamp,
        key=_text(record.key),
        headers=tuple((name, _text(data)) for name, data in record.headers),
        size=len(value),
        value=value if with_value else None,
        tenant=_tenant(value),
    )


def _tenant(value: bytes) -> str:
    try:
        return _whose.decode(value).tenant_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def table(letters: Sequence[DeadLetter]) -> str:
    """One line each, under a heading."""
    rows = [("PLACE", "AT", "REASON", "TYPE", "SESSION", "DETAIL")]
    rows += [
        (
            letter.place,
            letter.header("dead_at")[:19],
            letter.reason,
            letter.header("ce_type"),
            letter.key[:40],
            _short(letter.header("dead_detail")),
        )
        for letter in letters
    ]
    return "\n".join(in_columns(rows))


def page(letter: DeadLetter) -> str:
    """All of one letter: marks, headers, then its value, indented when it is JSON."""
    lines = [f"{name.removeprefix('dead_')}: {letter.header(name)}" for name in MARKS]
    lines += [f"key: {letter.key}", "headers:"]
    lines += [f"  {name}: {text}" for name, text in letter.headers if name not in MARKS]
    return "\n".join([*lines, f"value ({letter.size} bytes):", _value(letter.value or b"")])


def _value(value: bytes) -> str:
    try:
        return json.dumps(json.loads(value), indent=2, ensure_ascii=False)
    except ValueError:
        return value.decode("utf-8", "replace")


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "replace")


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= DETAIL_WIDTH else flat[: DETAIL_WIDTH - 1] + "…"
