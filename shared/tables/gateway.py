"""The gateway's tables. The worker neither writes nor reads them; the operator reads them, and empties `state` to
have a row folded anew. Sessions and turns can be dropped and are rebuilt without loss.

A table is declared here and nowhere else: statements take names and types from these classes, and a test compares
them with what the migrations make.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Index, LargeBinary, MetaData, Table, Text
from sqlmodel import Field, SQLModel

METADATA = MetaData()


class SessionRow(SQLModel, table=True):
    """A session as a client sees it; `body` is a `views.SessionPage` as JSON, times are RFC 3339 text.

    `state` is the core's, as of event `folded`, that all the rest is made of; none when it has to be made anew.
    """

    __tablename__ = "gateway_sessions"
    __table_args__ = (
        Index("gateway_sessions_by_time", "tenant_id", "created_at", "session_id"),
        Index("gateway_sessions_by_user", "tenant_id", "user_id", "created_at", "session_id"),
    )
    metadata = METADATA

    tenant_id: str = Field(primary_key=True, max_length=128)
    session_id: str = Field(primary_key=True, max_length=128)
    user_id: str = Field(max_length=128)
    status: str = Field(max_length=32)
    created_at: str = Field(max_length=40)
    last_seq: int = Field(sa_type=BigInteger)
    body: str = Field(sa_type=Text)
    state: bytes | None = Field(sa_type=LargeBinary)
    folded: int = Field(sa_type=BigInteger, sa_column_kwargs={"server_default": "0"})


class KeyRow(SQLModel, table=True):
    """What an Idempotency-Key stands for: `key` is its digest, `session_id` is empty for the opening of a session.

    No read model: it is written before what it names is published, and cannot be made anew from the log.
    """

    __tablename__ = "gateway_keys"
    metadata = METADATA

    tenant_id: str = Field(primary_key=True, max_length=128)
    session_id: str = Field(primary_key=True, max_length=128)
    key: str = Field(primary_key=True, max_length=64)
    stands_for: str = Field(max_length=128)


class UserSessionRow(SQLModel, table=True):
    """The session that a user goes on with. `scope` is "user", or "agent:" and the agent's name ("": the default
    one); `session_id` is "" once that session was closed on request; `opened`: somebody was told that it is new.

    No read model either: it is what two gateways that open a user's session at once agree by.
    """

    __tablename__ = "gateway_user_sessions"
    __table_args__ = (Index("gateway_user_sessions_by_session", "tenant_id", "session_id"),)
    metadata = METADATA

    tenant_id: str = Field(primary_key=True, max_length=128)
    user_id: str = Field(primary_key=True, max_length=128)
    scope: str = Field(primary_key=True, max_length=160)
    session_id: str = Field(max_length=128)
    opened: bool = Field(sa_type=Boolean)


class TurnRow(SQLModel, table=True):
    """A turn as a client sees it; `seq` is the number of the event it shows, `body` a `views.TurnView`."""

    __tablename__ = "gateway_turns"
    metadata = METADATA

    tenant_id: str = Field(primary_key=True, max_length=128)
    session_id: str = Field(primary_key=True, max_length=128)
    turn_id: str = Field(primary_key=True, max_length=128)
    status: str = Field(max_length=32)
    seq: int = Field(sa_type=BigInteger)
    body: str = Field(sa_type=Text)


SESSIONS: Table = METADATA.tables["gateway_sessions"]
KEYS: Table = METADATA.tables["gateway_keys"]
USER_SESSIONS: Table = METADATA.tables["gateway_user_sessions"]
TURNS: Table = METADATA.tables["gateway_turns"]
