"""Whose the provider's things are. Gateway, worker and operator add rows and read them; nobody changes one, and the
operator and the gateway delete those of things that are no more (docs/decisions/0031).

A table is declared here and nowhere else: statements take names and types from these classes, and a test compares
them with what the migrations make.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Index, MetaData, Table, bindparam, delete, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import Field, SQLModel, select

from shared.ownership import Binding, Thing
from shared.session.references import Kind

METADATA = MetaData()


class OwnedRow(SQLModel, table=True):
    """A thing of the provider's and its tenant; `project` and `user_id` are "" for all of the tenant's."""

    __tablename__ = "gateway_owned"
    __table_args__ = (
        Index("gateway_owned_by_tenant", "tenant_id", "kind", "id"),
        Index("gateway_owned_for", "tenant_id", "project", "user_id"),
    )
    metadata = METADATA

    kind: str = Field(primary_key=True, max_length=16)
    id: str = Field(primary_key=True, max_length=256)
    tenant_id: str = Field(max_length=128)
    project: str = Field(max_length=128)
    user_id: str = Field(max_length=128)
    label: str = Field(max_length=256)
    created_at: str = Field(max_length=40)


Whose = tuple[str, str, str]  # tenant, project, user
OWNED: Table = METADATA.tables["gateway_owned"]
_KEY = (OwnedRow.kind, OwnedRow.id)
_OWNERS = select(*_KEY, OwnedRow.tenant_id).where(
    tuple_(*_KEY).in_(bindparam("things", expanding=True))
)


async def owners_of(connection: AsyncConnection, things: Sequence[Thing]) -> list[str | None]:
    """The tenant that each thing is bound to, None for nobody."""
    rows = await connection.execute(_OWNERS, {"things": list(dict.fromkeys(things))})
    found: dict[Any, str] = {(row.kind, row.id): row.tenant_id for row in rows}
    return [found.get(thing) for thing in things]


async def bound(connection: AsyncConnection, bindings: Sequence[Binding]) -> list[str]:
    """Insert those that are not there, each statement by itself, and return the tenant of each then."""
    lite = connection.dialect.name == "sqlite"
    insert = sqlite.insert(OWNED) if lite else postgresql.insert(OWNED)
    wanted = {(one.kind, one.id): one for one in reversed(bindings)}
    rows = sorted(wanted.items())  # two who bind the same at once wait for each other in one order
    values = [msgspec.structs.asdict(one) for _, one in rows]
    await connection.execute(insert.values(values).on_conflict_do_nothing())
    found = await owners_of(connection, [(one.kind, one.id) for one in bindings])
    return [owner or "" for owner in found]


async def binding_of(connection: AsyncConnection, thing: Thing) -> Binding | None:
    """The whole row of a thing."""
    found = await _bindings(connection, OWNED.c.kind == thing[0], OWNED.c.id == thing[1])
    return found[0] if found else None


async def bindings_of(
    connection: AsyncConnection, tenant_id: str, kind: Kind, after: str, limit: int
) -> list[Binding]:
    """A tenant's things of a kind in order of id, beyond `after`, at most `limit`."""
    its = OWNED.c.tenant_id == tenant_id, OWNED.c.kind == kind, OWNED.c.id > after
    return await _bindings(connection, *its, limit=limit)


async def bindings_for(
    connection: AsyncConnection, kind: Kind, whose: Sequence[Whose]
) -> list[Binding]:
    """Those of these tenants, projects and users."""
    columns = OWNED.c
    named = tuple_(columns.tenant_id, columns.project, columns.user_id).in_(list(whose))
    return await _bindings(connection, columns.kind == kind, named)


async def unbind(connection: AsyncConnection, thing: Thing) -> None:
    """Delete a thing's row."""
    its = OWNED.c.kind == thing[0], OWNED.c.id == thing[1]
    await connection.execute(delete(OWNED).where(*its))


async def _bindings(
    connection: AsyncConnection, *its: ColumnElement[bool], limit: int | None = None
) -> list[Binding]:
    query = select(*OWNED.columns).where(*its).order_by(OWNED.c.id).limit(limit)
    return [Binding(**row) for row in (await connection.execute(query)).mappings()]
