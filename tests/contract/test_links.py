"""One suite for the rows of connect links: in memory, on SQLite and on PostgreSQL, as two gateways ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra.postgres.migrate import migrate_async
from services.gateway.adapters.connects import SqlLinks
from services.gateway.adapters.sql import open_engine
from services.gateway.connect.ports import LinkStore
from services.gateway.connect.records import LinkRecord
from services.operator.erasing.sql import sql_stores
from shared.errors import Transient
from tests.fakes.connects import MemoryLinks
from tests.stack import fresh_database

pytestmark = pytest.mark.contract
Both = tuple[LinkStore, LinkStore]


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def links(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_server: str
) -> AsyncIterator[Both]:
    """As two gateways ask, the same table."""
    if request.param == "memory":
        memory = MemoryLinks()
        yield memory, memory
    elif request.param == "sqlite":
        async with opened(f"sqlite+aiosqlite:///{tmp_path}/links.db") as both:
            yield both
    else:
        async with fresh_database(postgres_server) as url, opened(url) as both:
            yield both


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Both]:
    await migrate_async(url)
    engines = open_engine(url, 4), open_engine(url, 4)
    yield SqlLinks(engines[0]), SqlLinks(engines[1])
    for engine in engines:
        await engine.dispose()


def a_link(id: str = "a" * 64, **more: Any) -> LinkRecord:
    made = LinkRecord(
        id=id,
        tenant_id="acme",
        user_id="ada",
        vault_id="vlt_1",
        sealed="s" * 3000,
        browser="",
        status="open",
        expires_at=1_000.5,
    )
    return msgspec.structs.replace(made, **more)


async def test_a_link_is_read_as_it_was_added(links: Both) -> None:
    one, other = links
    await one.add(a_link())
    assert await other.record("a" * 64) == a_link()
    assert await other.record("b" * 64) is None


async def test_of_browsers_that_begin_at_once_one_wins(links: Both) -> None:
    await links[0].add(a_link())
    browsers = [f"{number:064d}" for number in range(8)]
    won = await asyncio.gather(
        *(links[place % 2].begin("a" * 64, one) for place, one in enumerate(browsers))
    )
    assert won.count(True) == 1
    winner = browsers[won.index(True)]
    assert await links[1].begin("a" * 64, winner)
    found = await links[0].record("a" * 64)
    assert found is not None
    assert found.browser == winner


async def test_of_exchanges_at_once_one_wins(links: Both) -> None:
    await links[0].add(a_link(browser="b"))
    moved = await asyncio.gather(
        *(links[place % 2].move("a" * 64, "b", "open", "exchanging") for place in range(8))
    )
    assert moved.count(True) == 1
    assert not await links[0].move("a" * 64, "c", "exchanging", "open")
    assert not await links[0].begin("a" * 64, "b")
    assert await links[1].move("a" * 64, "b", "exchanging", "open")
    assert await links[1].begin("a" * 64, "b")


async def test_what_is_sealed_is_gone_once_done(links: Both) -> None:
    await links[0].add(a_link(browser="b", status="exchanging"))
    assert await links[0].move("a" * 64, "b", "exchanging", "done")
    done = a_link(browser="b", status="done", sealed="")
    assert await links[1].record("a" * 64) == done
    assert not await links[0].begin("a" * 64, "b")


async def test_links_that_expired_before_are_swept(links: Both) -> None:
    for name, until in (("a", 10.0), ("b", 20.0), ("c", 30.0)):
        await links[0].add(a_link(name * 64, expires_at=until))
    assert await links[1].sweep(20.0) == 1
    assert await links[1].sweep(20.0) == 0
    assert await links[0].record("a" * 64) is None
    assert await links[0].record("b" * 64) is not None


async def test_a_link_that_is_not_there_is_nobodys(links: Both) -> None:
    assert not await links[0].begin("a" * 64, "b")
    assert not await links[0].move("a" * 64, "b", "open", "exchanging")


async def test_the_links_of_an_erased_user_are_gone(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/links.db"
    async with opened(url) as (links, _), sql_stores(url) as stores:
        await links.add(a_link())
        await links.add(a_link("b" * 64, user_id="bob"))
        assert await stores.of_user_itself("acme", "ada") == {"gateway_connects": 1}
        await stores.forget("acme", "ada")
        assert await links.record("a" * 64) is None
        assert await links.record("b" * 64) is not None


async def test_a_database_that_is_away_is_transient(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite+aiosqlite:///{tmp_path}/none/links.db", 1)
    links = SqlLinks(engine)
    for asking in (links.add(a_link()), links.record("a"), links.begin("a", "b"), links.sweep(1.0)):
        with pytest.raises(Transient) as caught:
            await asking
        assert caught.value.reason == "database_unavailable"
    await engine.dispose()
