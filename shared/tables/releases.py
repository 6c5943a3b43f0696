"""Releases of agents: which version sessions get that name an agent. The operator writes them; agent-workers read
single rows when they open a provider session, and the gateway lists them.

A table is declared here and nowhere else: statements take names and types from these classes, and a test compares
them with what the migrations make.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Double, MetaData, Table
from sqlmodel import Field, SQLModel

METADATA = MetaData()


class ReleaseRow(SQLModel, table=True):
    """See `shared.session.releases.Release`; `changed_at` is in seconds since the epoch, `why` in words."""

    __tablename__ = "agent_releases"
    metadata = METADATA

    tenant_id: str = Field(primary_key=True, max_length=128)
    name: str = Field(primary_key=True, max_length=128)
    agent_id: str = Field(max_length=128)
    pinned: int = Field(sa_type=BigInteger)
    previous: int = Field(sa_type=BigInteger)
    canary: int = Field(sa_type=BigInteger)
    share: int = Field(sa_type=BigInteger)
    released: int = Field(sa_type=BigInteger)
    edition: int = Field(sa_type=BigInteger)
    changed_at: float = Field(sa_type=Double)
    why: str = Field(max_length=400)


RELEASES: Table = METADATA.tables["agent_releases"]
