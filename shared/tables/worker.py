"""The worker's tables. No other service writes or reads them; the operator's audit reads them and makes rows due.

`worker_inbox` remembers every input id for as long as the session lives: that is what makes the same turn id twice
one turn. `worker_heads` is one row a session; `wake_at` is the one mechanism behind claims, backoff and crash
recovery: the row is due when that moment has passed, and a lease is nothing but a `wake_at` pushed ahead.
`worker_rate_accounts` is one row a limit of the provider. `worker_ledger` is only added to: a row is a line of a
`session.charged`, written with the head row that recorded the event. The tables of caps are in `caps.py`.

A table is declared here and nowhere else: statements take names and types from these classes, and a test compares
them with what the migrations make.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    text,
)
from sqlmodel import Field, SQLModel

METADATA = MetaData()
# SQLite counts only INTEGER keys up by itself.
POSITION = BigInteger().with_variant(Integer, "sqlite")


class InboxRow(SQLModel, table=True):
    """One input. `position` orders the inputs of a session."""

    __tablename__ = "worker_inbox"
    __table_args__ = (
        Index("worker_inbox_once", "tenant_id", "session_id", "input_id", unique=True),
        Index("worker_inbox_order", "tenant_id", "session_id", "position"),
    )
    metadata = METADATA

    position: int = Field(
        primary_key=True, sa_type=POSITION, sa_column_kwargs={"autoincrement": True}
    )
    tenant_id: str = Field(max_length=128)
    session_id: str = Field(max_length=128)
    input_id: str = Field(max_length=300)
    kind: str = Field(max_length=64)
    body: bytes = Field(sa_type=LargeBinary)
    traceparent: str = Field(max_length=600)
    received_at: str = Field(max_length=40, sa_column_kwargs={"server_default": text("''")})


class HeadRow(SQLModel, table=True):
    """One session. `filed` and `taken` count its inputs; `state`, `unsaid`, `todo` are encoded by `shared.session`.

    `wake_at` is in seconds since the epoch, by the database's clock; None: not due by itself.
    """

    __tablename__ = "worker_heads"
    __table_args__ = (
        Index("worker_heads_wake", "wake_at"),
        Index("worker_heads_owner", "lease_owner"),
    )
    metadata = METADATA

    tenant_id: str = Field(primary_key=True, max_length=128)
    session_id: str = Field(primary_key=True, max_length=128)
    epoch: int = Field(sa_type=BigInteger)
    version: int = Field(sa_type=BigInteger)
    state: bytes = Field(sa_type=LargeBinary)
    unsaid: bytes = Field(sa_type=LargeBinary)
    todo: bytes = Field(sa_type=LargeBinary)
    filed: int = Field(sa_type=BigInteger)
    taken: int = Field(sa_type=BigInteger)
    position: int = Field(sa_type=BigInteger)
    lease_owner: str | None = Field(max_length=128)
    wake_at: float | None = Field(sa_type=Double)


class RateAccountRow(SQLModel, table=True):
    """What all workers may still ask of the provider under one limit; `level` is the governor's, as JSON."""

    __tablename__ = "worker_rate_accounts"
    metadata = METADATA

    name: str = Field(primary_key=True, max_length=64)
    version: int = Field(sa_type=BigInteger)
    level: bytes = Field(sa_type=LargeBinary)


class LedgerRow(SQLModel, table=True):
    """One line of the ledger: `line` counts those of the event `seq` from 0. `turn_id` is "" for what is the
    session's own, `at` the event's time, `micro_usd` millionths of a US dollar; the rest is as in
    `shared.session.events.Charge`."""

    __tablename__ = "worker_ledger"
    __table_args__ = (Index("worker_ledger_at", "tenant_id", "at"),)
    metadata = METADATA

    tenant_id: str = Field(primary_key=True, max_length=128)
    session_id: str = Field(primary_key=True, max_length=128)
    seq: int = Field(primary_key=True, sa_type=BigInteger)
    line: int = Field(primary_key=True, sa_type=Integer)
    at: str = Field(max_length=40)
    turn_id: str = Field(max_length=128)
    user_id: str = Field(max_length=128)
    agent: str = Field(max_length=256)
    provider_session_id: str = Field(max_length=256)
    kind: str = Field(max_length=32)
    source: str = Field(max_length=256)
    thread_id: str = Field(max_length=256)
    model: str = Field(max_length=256)
    price: str = Field(max_length=300)
    input_tokens: int = Field(sa_type=BigInteger)
    output_tokens: int = Field(sa_type=BigInteger)
    cache_read_tokens: int = Field(sa_type=BigInteger)
    cache_write_tokens: int = Field(sa_type=BigInteger)
    cache_hour_tokens: int = Field(sa_type=BigInteger)
    active_ms: int = Field(sa_type=BigInteger)
    micro_usd: int = Field(sa_type=BigInteger)
    estimate: bool = Field(sa_type=Boolean)


class ConversationRow(SQLModel, table=True):
    """One entry of a conversation on the Messages API, which is kept here alone. `event` is in the provider's
    shape, `said` what of it goes to the model; both are JSON, empty for nothing."""

    __tablename__ = "worker_conversations"
    __table_args__ = (
        Index("worker_conversations_once", "conversation", "source", unique=True),
        Index("worker_conversations_session", "tenant_id", "session_id"),
    )
    metadata = METADATA

    conversation: str = Field(primary_key=True, max_length=64)
    position: int = Field(primary_key=True, sa_type=BigInteger)
    tenant_id: str = Field(max_length=128)
    session_id: str = Field(max_length=128)
    source: str = Field(max_length=300)
    event: bytes = Field(sa_type=LargeBinary)
    said: bytes = Field(sa_type=LargeBinary)


INBOX: Table = METADATA.tables["worker_inbox"]
HEADS: Table = METADATA.tables["worker_heads"]
ACCOUNTS: Table = METADATA.tables["worker_rate_accounts"]
LEDGER: Table = METADATA.tables["worker_ledger"]
CONVERSATIONS: Table = METADATA.tables["worker_conversations"]
