"""The two writes of PostgreSQL: one statement each, so one way to the server and back.

The version is checked on the locked row; the events depend on that row's change, and so land with it or not at all.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Text, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from turnstile.stores.port import NO_STATE, Append

_EVENTS = """
INSERT INTO turnstile_store_events (session, seq, append_id, event)
SELECT head.session, CAST(:expected AS bigint) + added.n, CAST(:append_id AS text), added.event
FROM head, unnest(CAST(:events AS text[])) WITH ORDINALITY AS added(event, n)"""
_MAKE = """
WITH head AS (
    INSERT INTO turnstile_store_sessions
        (session, version, user_id, state, created_ms, updated_ms, expires_ms)
    VALUES (:session, :version, :user_id, :state, :updated_ms, :updated_ms, :expires_ms)
    ON CONFLICT DO NOTHING RETURNING session)"""
_CHANGE = """
WITH head AS (
    UPDATE turnstile_store_sessions
    SET version = :version, updated_ms = :updated_ms, expires_ms = :expires_ms{state}
    WHERE session = :session AND version = CAST(:expected AS bigint) RETURNING session)"""
_REMOVE = """
WITH gone AS (
    DELETE FROM turnstile_store_sessions WHERE session = :session AND version = :version RETURNING session),
events AS (DELETE FROM turnstile_store_events USING gone WHERE turnstile_store_events.session = gone.session),
aside AS (DELETE FROM turnstile_store_aside USING gone WHERE turnstile_store_aside.session = gone.session)
SELECT count(*) FROM gone"""
_LIST = bindparam("events", type_=ARRAY(Text))
MAKE = text(_MAKE + _EVENTS).bindparams(_LIST)
CHANGE = text(_CHANGE.format(state=", state = :state") + _EVENTS).bindparams(_LIST)
KEEP_STATE = text(_CHANGE.format(state="") + _EVENTS).bindparams(_LIST)
REMOVE = text(_REMOVE)


async def written_postgres(connection: AsyncConnection, append: Append) -> bool:
    head = append.head
    values: dict[str, Any] = {
        "session": head.session,
        "version": head.version,
        "updated_ms": head.updated_ms,
        "expires_ms": head.expires_ms,
        "expected": append.expected,
        "append_id": append.lines[0].append_id,
        "events": [line.text for line in append.lines],
    }
    if append.expected == 0:
        statement, values["user_id"] = MAKE, head.user
    else:
        statement = KEEP_STATE if head.state == NO_STATE else CHANGE
    if head.state != NO_STATE:
        values["state"] = head.state
    return bool((await connection.execute(statement, values)).rowcount)


async def removed_postgres(connection: AsyncConnection, session: str, version: int) -> bool:
    values = {"session": session, "version": version}
    return bool((await connection.execute(REMOVE, values)).scalar_one())
