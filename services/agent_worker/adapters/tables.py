"""The worker's tables. No other service writes or reads them; the operator's audit reads them and makes rows due.

`worker_inbox` remembers every input id for as long as the session lives: that is what makes the same turn id twice
one turn. `worker_heads` is one row a session; `wake_at` is the one mechanism behind claims, backoff and crash
recovery: the row is due when that moment has passed, and a lease is nothing but a `wake_at` pushed ahead.

`worker_rate_accounts` is one row a limit of the provider.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, LargeBinary
from sqlmodel import Field, SQLModel

Position = BigInteger().with_variant(
    Integer, "sqlite"
)  # SQLite counts only INTEGER keys up by itself


class InboxRow(SQLModel, table=True):
    """One input. `position` orders the inputs of a session."""

    __tablename__ = "worker_inbox"
    __table_args__ = (
        Index("worker_inbox_once", "tenant_id", "session_id", "input_id", unique=True),
        Index("worker_inbox_order", "tenant_id", "session_id", "position"),
    )

    position: int | None = Field(
        default=None, sa_column=Column(Position, primary_key=True, autoincrement=True)
    )
    tenant_id: str = Field(max_length=128)
    session_id: str = Field(max_length=128)
    input_id: str = Field(max_length=300)
    kind: str = Field(max_length=64)
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    traceparent: str = Field(default="", max_length=600)
    received_at: str = Field(default="", max_length=40)


class HeadRow(SQLModel, table=True):
    """One session. `filed` and `taken` count its inputs; `state`, `unsaid`, `todo` are encoded by `shared.session`.

    `wake_at` is in seconds since the epoch, by the database's clock; None: not due by itself.
    """

    __tablename__ = "worker_heads"
    __table_args__ = (
        Index("worker_heads_wake", "wake_at"),
        Index("worker_heads_owner", "lease_owner"),
    )

    tenant_id: str = Field(max_length=128, primary_key=True)
    session_id: str = Field(max_length=128, primary_key=True)
    epoch: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    version: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    state: bytes = Field(default=b"", sa_column=Column(LargeBinary, nullable=False))
    unsaid: bytes = Field(default=b"", sa_column=Column(LargeBinary, nullable=False))
    todo: bytes = Field(default=b"", sa_column=Column(LargeBinary, nullable=False))
    filed: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    taken: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    position: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    lease_owner: str | None = Field(default=None, max_length=128)
    wake_at: float | None = Field(default=None, sa_column=Column(Double, nullable=True))


class RateAccountRow(SQLModel, table=True):
    """What all workers may still ask of the provider under one limit; `level` is the governor's, as JSON."""

    __tablename__ = "worker_rate_accounts"

    name: str = Field(max_length=64, primary_key=True)
    version: int = Field(sa_column=Column(BigInteger, nullable=False))
    level: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
