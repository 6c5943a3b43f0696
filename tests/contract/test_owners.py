"""One suite for whose things are: in memory, and as gateway and worker ask, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres.migrate import migrate_async
from services.agent_worker.adapters.engine import make_engine
from services.agent_worker.adapters.owned import SqlOwned as WorkerOwned
from services.gateway.adapters.owned import SqlOwned as GatewayOwned
from services.gateway.adapters.sql import open_engine
from shared.errors import Transient
from shared.ownership import Binding, Owners
from tests.fakes.owners import MemoryOwners
from tests.stack import fresh_database

pytestmark = pytest.mark.contract


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def owners(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_server: str
) -> AsyncIterator[tuple[Owners, Owners]]:
    """As the gateway asks and as a worker asks, the same table."""
    if request.param == "memory":
        memory = MemoryOwners()
        yield memory, memory
    elif request.param == "sqlite":
        async with opened(f"sqlite+aiosqlite:///{tmp_path}/owned.db") as both:
            yield both
    else:
        async with fresh_database(postgres_server) as url, opened(url) as both:
            yield both


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[Owners, Owners]]:
    await migrate_async(url)
    gateways, workers = open_engine(url, 4), make_engine(url, pool=4)
    yield GatewayOwned(gateways), WorkerOwned(workers)
    await gateways.dispose()
    await workers.dispose()


def a_vault(tenant_id: str, id: str = "v_1") -> Binding:
    return Binding(kind="vault", id=id, tenant_id=tenant_id, created_at="2026-11-21T12:00:00Z")


async def test_a_thing_is_the_one_tenants_that_bound_it_first(
    owners: tuple[Owners, Owners],
) -> None:
    gateway, worker = owners
    assert await gateway.owner(("vault", "v_1")) is None
    assert await gateway.bind(a_vault("acme")) == "acme"
    assert await worker.bind(a_vault("other")) == "acme"
    assert await worker.owner(("vault", "v_1")) == "acme"
    assert await gateway.owner(("vault", "v_1")) == "acme"


async def test_a_thing_is_its_kind_and_its_id(owners: tuple[Owners, Owners]) -> None:
    gateway, worker = owners
    await gateway.bind(a_vault("acme"))
    assert await worker.owner(("file", "v_1")) is None
    assert await worker.owner(("vault", "V_1")) is None
    assert await worker.owner(("vault", "v_1 ")) is None


async def test_of_many_who_bind_it_at_once_one_wins(owners: tuple[Owners, Owners]) -> None:
    wanted = [a_vault(f"tenant_{place % 7}", f"v_{place % 5}") for place in range(70)]
    found = await asyncio.gather(*(owners[place % 2].bind(one) for place, one in enumerate(wanted)))
    winners = {(one.id, owner) for one, owner in zip(wanted, found, strict=True)}
    assert len(winners) == 5
    asked = await asyncio.gather(*(owners[0].owner(("vault", one.id)) for one in wanted))
    assert list(asked) == list(found)


@pytest.mark.parametrize("id", ["'; drop table gateway_owned; --", "é✓", "x" * 256])
async def test_any_printable_id_is_a_value(owners: tuple[Owners, Owners], id: str) -> None:
    assert await owners[1].bind(a_vault("acme", id)) == "acme"
    assert await owners[0].owner(("vault", id)) == "acme"


async def test_a_database_that_is_away_is_transient(tmp_path: Path) -> None:
    url = "postgresql+asyncpg://nobody@127.0.0.1:1/none"
    engines: list[AsyncEngine] = [open_engine(url, 1), make_engine(url, pool=1)]
    for one in (GatewayOwned(engines[0]), WorkerOwned(engines[1])):
        with pytest.raises(Transient):
            await one.owner(("vault", "v_1"))
    for engine in engines:
        await engine.dispose()


async def test_vaults_are_found_by_whom_they_are_for(tmp_path: Path, postgres_server: str) -> None:
    places = [("", ""), ("web", ""), ("", "ada"), ("web", "ada"), ("app", ""), ("", "bob")]
    async with fresh_database(postgres_server) as url, opened(url) as (gateway, worker):
        for tenant_id in ("acme", "other"):
            for project, user_id in places:
                id = f"{tenant_id}:{project}:{user_id}"
                whose = {"tenant_id": tenant_id, "project": project, "user_id": user_id}
                made = Binding(kind="vault", id=id, label="made", created_at="2026", **whose)
                await gateway.bind(made)
        assert isinstance(worker, WorkerOwned)
        wanted = [("acme", "web", "ada"), ("acme", "", "ada"), ("other", "app", "eve")]
        found = await asyncio.gather(*(worker.of(*one) for one in wanted))
    assert [sorted(one.id for one in some) for some in found] == [
        ["acme::", "acme::ada", "acme:web:", "acme:web:ada"],
        ["acme::", "acme::ada"],
        ["other::", "other:app:"],
    ]


async def test_what_is_bound_is_read_listed_and_unbound(owners: tuple[Owners, Owners]) -> None:
    gateway: Any = owners[0]
    for number in range(5):
        await gateway.bind(a_vault("acme", f"v_{number}"))
    await gateway.bind(a_vault("other", "v_9"))
    assert await gateway.binding(("vault", "v_1")) == a_vault("acme", "v_1")
    assert await gateway.binding(("vault", "v_7")) is None
    page = await gateway.of_tenant("acme", "vault", "", 3)
    assert [one.id for one in page] == ["v_0", "v_1", "v_2"]
    rest = await gateway.of_tenant("acme", "vault", "v_2", 3)
    assert [one.id for one in rest] == ["v_3", "v_4"]
    await gateway.unbind(("vault", "v_1"))
    assert await gateway.owner(("vault", "v_1")) is None
