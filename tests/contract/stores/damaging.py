"""Damages what a store keeps, past the store: by its database's own client."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Table, and_, update

from tests.contract.stores.conftest import Place
from turnstile.stores import SessionStore
from turnstile.stores.sql import SqlBackend
from turnstile.stores.sql_tables import EVENTS, PROFILES, SESSIONS

BROKEN = '{"half": '
Damage = Callable[[str], Coroutine[Any, Any, None]]


async def break_event(place: Place, store: SessionStore, session: str, seq: int) -> None:
    """The event's text is no JSON any more."""
    if place.name == "files":
        file = _folder(place, "sessions", session) / "events.jsonl"
        lines = file.read_bytes().split(b"\n")
        lines[seq - 1] = b"#" * len(lines[seq - 1])
        file.write_bytes(b"\n".join(lines))
    else:
        at = and_(EVENTS.c.session == session, EVENTS.c.seq == seq)
        await _sql(store, EVENTS, at, EVENTS.c.event)


async def break_state(place: Place, store: SessionStore, session: str) -> None:
    """What holds the session's state can't be read any more."""
    if place.name == "files":
        (_folder(place, "sessions", session) / "head.json").write_text(BROKEN)
    else:
        await _sql(store, SESSIONS, SESSIONS.c.session == session, SESSIONS.c.state)


async def break_profile(place: Place, store: SessionStore, user: str) -> None:
    """The profile's text is no JSON any more; its version stands."""
    if place.name == "files":
        _folder(place, "profiles", user).write_text(f"1\n{BROKEN}")
    else:
        await _sql(store, PROFILES, PROFILES.c.user_id == user, PROFILES.c.profile)


async def _sql(store: SessionStore, table: Table, where: Any, column: Column[Any]) -> None:
    assert isinstance(store.backend, SqlBackend)
    async with store.backend.engine.begin() as connection:
        done = await connection.execute(update(table).where(where).values({column: BROKEN}))
        assert done.rowcount == 1


def _folder(place: Place, kind: str, name: str) -> Path:
    return Path(place.url.removeprefix("file://")) / kind / f"{name}.d"
