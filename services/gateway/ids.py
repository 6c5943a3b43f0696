"""Ids and keys: as clients may choose them, as they are derived from others, as they are made here."""

from __future__ import annotations

import os
import re
from hashlib import sha256

from shared.errors import Rejected

# As JSON Schema writes it.
ID = "^[A-Za-z0-9._:-]{1,128}$"
_ID = re.compile(ID)
_KEY = re.compile(r"[\x20-\x7e]{1,255}")


def derived(prefix: str, *parts: str) -> str:
    """`prefix` and 32 hex digits that depend on nothing but `parts`.

    A zero byte separates the parts; none of them can hold one.
    """
    return prefix + sha256("\0".join(parts).encode()).hexdigest()[:32]


def turn_input(tenant_id: str, session_id: str, turn_id: str) -> str:
    """`ce_id` of a turn's request: publishing it again is the same event."""
    return derived("in_", tenant_id, session_id, "turn", turn_id)


def keyed_turn(tenant_id: str, session_id: str, key: str) -> str:
    """The turn that an Idempotency-Key stands for where its first request names none; also the key's digest."""
    return derived("turn_", tenant_id, session_id, key)


def keyed_session(tenant_id: str, key: str) -> str:
    """The session that an Idempotency-Key stands for where its first request names none; also the key's digest."""
    return derived("ses_", tenant_id, "session", key)


def require_id(value: str, field: str) -> str:
    """`value`, when it is an id. Raises Rejected (`invalid_request`) naming `field`."""
    if _ID.fullmatch(value) is None:
        raise Rejected(
            "invalid_request", "must be 1 to 128 characters of A-Z a-z 0-9 . _ : -", field=field
        )
    return value


def require_key(value: str | None) -> str | None:
    """The Idempotency-Key, when it is one. Raises Rejected (`invalid_request`) naming the header."""
    if value is not None and _KEY.fullmatch(value) is None:
        raise Rejected(
            "invalid_request",
            "must be 1 to 255 printable ASCII characters",
            field="Idempotency-Key",
        )
    return value


def fresh(prefix: str) -> str:
    """A new id nobody can guess."""
    return prefix + _chance.take().hex()


class _Chance:
    """The system's random bytes, 16 at a time, asked for many at a time: each asking is a call of the system. None
    is given twice, in a process that was forked neither."""

    def __init__(self) -> None:
        self._pool, self._next = b"", 0
        os.register_at_fork(after_in_child=self._forget)

    def take(self) -> bytes:
        """16 bytes."""
        place = self._next
        if place == len(self._pool):
            self._pool, place = os.urandom(4096), 0
        self._next = place + 16
        return self._pool[place : place + 16]

    def _forget(self) -> None:
        self._pool, self._next = b"", 0


_chance = _Chance()
