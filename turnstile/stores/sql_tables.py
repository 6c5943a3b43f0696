"""The tables of a store in SQL. Ids compare byte by byte on every database, so that pages have one order."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, MetaData, String, Table, Text

METADATA = MetaData()
ID = String(128).with_variant(String(128, collation="C"), "postgresql")
LONG = Text()

SESSIONS = Table(
    "turnstile_store_sessions",
    METADATA,
    Column("session", ID, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("user_id", ID, nullable=False),
    Column("state", LONG, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger),
    Index("turnstile_store_sessions_user", "user_id", "session"),
    Index("turnstile_store_sessions_due", "expires_ms"),
)
EVENTS = Table(
    "turnstile_store_events",
    METADATA,
    Column("session", ID, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("append_id", ID, nullable=False),
    Column("event", LONG, nullable=False),
)
PROFILES = Table(
    "turnstile_store_profiles",
    METADATA,
    Column("user_id", ID, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("profile", LONG, nullable=False),
)
# What could not be read, once a record; seq 0 is the session's state.
ASIDE = Table(
    "turnstile_store_aside",
    METADATA,
    Column("session", ID, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("reason", String(64), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("record", LONG, nullable=False),
)
