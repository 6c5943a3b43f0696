"""The table of releases, which the operator writes."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Insert, Update, insert, select, update
from sqlalchemy.exc import IntegrityError

from services.operator.database import engine_on
from services.operator.failures import Impossible
from shared.clock import utcnow
from shared.moment import rfc3339
from shared.ownership import Binding
from shared.session.releases import Release
from shared.tables.clock import Now
from shared.tables.owned import bound
from shared.tables.releases import RELEASES

FIELDS = Release.__struct_fields__
MOST_WHY = 400


async def releases(url: str) -> list[tuple[Release, str]]:
    """All of them by tenant and name, each with why it is as it is."""
    query = select(RELEASES).order_by(RELEASES.c.tenant_id, RELEASES.c.name)
    async with engine_on(url) as engine, engine.connect() as connection:
        rows = (await connection.execute(query)).mappings().all()
    return [(Release(**{name: row[name] for name in FIELDS}), row["why"]) for row in rows]


async def canaries(url: str) -> list[tuple[Release, float]]:
    """Releases with a canary, each with when it was changed last, in seconds since the epoch."""
    query = (
        select(RELEASES)
        .where(RELEASES.c.canary > 0)
        .order_by(RELEASES.c.tenant_id, RELEASES.c.name)
    )
    async with engine_on(url) as engine, engine.connect() as connection:
        rows = (await connection.execute(query)).mappings().all()
    return [(Release(**{name: row[name] for name in FIELDS}), row["changed_at"]) for row in rows]


async def release_of(url: str, tenant: str, name: str) -> Release | None:
    """The release of that tenant ("": everybody's) and name."""
    query = select(RELEASES).where(RELEASES.c.tenant_id == tenant, RELEASES.c.name == name)
    async with engine_on(url) as engine, engine.connect() as connection:
        row = (await connection.execute(query)).mappings().one_or_none()
    return None if row is None else Release(**{field: row[field] for field in FIELDS})


async def bind(url: str, tenant: str, agent: str) -> None:
    """Nobody but this tenant may name the agent by its id either. Raises Impossible when it is another's."""
    at = rfc3339(utcnow())
    binding = Binding(
        kind="agent", id=agent, tenant_id=tenant, label="agents as code", created_at=at
    )
    async with engine_on(url) as engine, engine.begin() as connection:
        (owner,) = await bound(connection, [binding])
    if owner != tenant:
        raise Impossible(
            f"{agent} is another tenant's: apply it with --tenant {owner}, or from another folder"
        )


async def change(
    url: str, tenant: str, name: str, to: Callable[[Release | None], Release], why: str
) -> Release:
    """Make the release what `to` makes of it; nothing is written when that is what it is. Raises Impossible when
    somebody else changed it at the same time, and what `to` raises."""
    old = await release_of(url, tenant, name)
    new = to(old)
    if new == old:
        return new
    values = {field: getattr(new, field) for field in FIELDS}
    values |= {"edition": new.edition + 1, "changed_at": Now(), "why": why[:MOST_WHY]}
    async with engine_on(url) as engine, engine.begin() as connection:
        statement: Insert | Update
        if old is None:
            statement = insert(RELEASES).values(values)
        else:
            same = (RELEASES.c.tenant_id == tenant, RELEASES.c.name == name)
            statement = (
                update(RELEASES).where(*same, RELEASES.c.edition == old.edition).values(values)
            )
        try:
            written = (await connection.execute(statement)).rowcount == 1
        except IntegrityError:
            written = False
    if not written:
        raise Impossible(
            f"somebody else changed the release of {name} at the same time: look again"
        )
    return new
