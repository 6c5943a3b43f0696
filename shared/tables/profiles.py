"""What is kept of users. The gateway writes it, the worker reads single rows of it, the operator deletes those of
users that are erased: the one table that services share (docs/decisions/0025).

A table is declared here and nowhere else: statements take names and types from these classes, and a test compares
them with what the migrations make.
"""

from __future__ import annotations

from sqlalchemy import MetaData, Table, Text
from sqlmodel import Field, SQLModel

METADATA = MetaData()


class ProfileRow(SQLModel, table=True):
    """A user. `body` is JSON in one line, `{"preferences": {…}, "facts": […]}`; there is no row of a user of whom
    nothing is known."""

    __tablename__ = "gateway_profiles"
    metadata = METADATA

    tenant_id: str = Field(primary_key=True, max_length=128)
    user_id: str = Field(primary_key=True, max_length=128)
    body: str = Field(sa_type=Text)
    updated_at: str = Field(max_length=40)


PROFILES: Table = METADATA.tables["gateway_profiles"]
