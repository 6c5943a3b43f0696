"""Connect links: one row a link that was handed out. The gateway writes and sweeps them, the operator deletes those
of a user that is erased.

A table is declared here and nowhere else: statements take names and types from these classes, and a test compares
them with what the migrations make.
"""

from __future__ import annotations

from sqlalchemy import Double, Index, MetaData, Table, Text
from sqlmodel import Field, SQLModel

METADATA = MetaData()


class ConnectRow(SQLModel, table=True):
    """See `services.gateway.connect.records.LinkRecord`; `expires_at` is in seconds since the epoch."""

    __tablename__ = "gateway_connects"
    __table_args__ = (
        Index("gateway_connects_by_user", "tenant_id", "user_id"),
        Index("gateway_connects_expire", "expires_at"),
    )
    metadata = METADATA

    id: str = Field(primary_key=True, max_length=64)
    tenant_id: str = Field(max_length=128)
    user_id: str = Field(max_length=128)
    vault_id: str = Field(max_length=128)
    sealed: str = Field(sa_type=Text)
    browser: str = Field(max_length=64)
    status: str = Field(max_length=16)
    expires_at: float = Field(sa_type=Double)


CONNECTS: Table = METADATA.tables["gateway_connects"]
