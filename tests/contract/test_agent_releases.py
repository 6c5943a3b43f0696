"""Releases of agents on both databases, by the operator's own functions, and what a session gets of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from threading import Thread

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from infra.postgres.migrate import migrate_async
from services.agent_worker.adapters.releases import SqlReleases
from services.agent_worker.provider.opening import Openings
from services.agent_worker.provider.parts import Parts
from services.operator.agents import release
from services.operator.agents.release_rows import change, release_of, releases
from services.operator.failures import Impossible
from shared.session.releases import Release, version_for
from shared.session.state import SessionState
from tests.contract.provider_worlds import WireWorld, wire_world
from tests.stack import fresh_database

pytestmark = pytest.mark.contract
MANY, SHARE = 500, 20


@pytest.fixture(params=["sqlite", "postgres"])
async def url(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_server: str
) -> AsyncIterator[str]:
    if request.param == "sqlite":
        place = f"sqlite+aiosqlite:///{tmp_path}/releases.db"
        await migrate_async(place)
        yield place
    else:
        async with fresh_database(postgres_server) as place:
            await migrate_async(place)
            yield place


async def forward(
    url: str, version: int, share: int = 0, tenant: str = "", agent: str = "agent_1"
) -> Release:
    def to(old: Release | None) -> Release:
        return release.put_forward(old, tenant, "support", agent, version, share)

    return await change(url, tenant, "support", to, "applied")


async def test_what_is_written_is_read_and_a_tenants_own_comes_first(url: str) -> None:
    await forward(url, 1)
    await forward(url, 2, SHARE)
    await forward(url, 1, tenant="acme", agent="agent_acme")
    engine = create_async_engine(url)
    read = SqlReleases(engine)
    own, others, nobodys = await asyncio.gather(
        read.of("acme", "support"), read.of("other", "support"), read.of("acme", "agent_1")
    )
    await engine.dispose()
    assert own is not None
    assert own.agent_id == "agent_acme"
    assert others is not None
    assert (others.pinned, others.canary, others.share) == (1, 2, SHARE)
    assert nobodys is None
    assert [(one.tenant_id, why) for one, why in await releases(url)] == [
        ("", "applied"),
        ("acme", "applied"),
    ]


async def test_of_two_who_change_it_at_once_one_is_told(url: str) -> None:
    await forward(url, 1)

    def to(old: Release | None) -> Release:
        """Somebody else is done between the look and the write."""
        quick = Thread(target=lambda: asyncio.run(forward(url, 2)))
        quick.start()
        quick.join()
        assert old is not None
        return release.pinned(old, 3)

    with pytest.raises(Impossible, match="somebody else"):
        await change(url, "", "support", to, "late")
    first, second = await asyncio.gather(
        forward(url, 1, tenant="b"), forward(url, 1, tenant="b"), return_exceptions=True
    )
    assert not (isinstance(first, Exception) and isinstance(second, Exception))
    found = await release_of(url, "", "support")
    assert found is not None
    assert found.pinned == 2


async def test_sessions_by_name_get_the_canary_by_its_share_and_the_pinned_version_after_a_rollback(
    tmp_path: Path,
) -> None:
    """Of 500 sessions through the driver and the SDK: the version each runs is the provider's own word."""
    url = f"sqlite+aiosqlite:///{tmp_path}/releases.db"
    await migrate_async(url)
    async with wire_world() as world:
        agents = world.client.beta.agents
        made = await agents.create(name="Support", model="claude-sonnet-5-5", system="one")
        await agents.update(made.id, version=1, system="two")
        await forward(url, 1, agent=made.id)
        canary = await forward(url, 2, SHARE, agent=made.id)
        engine = create_async_engine(url)
        place = await world.client.beta.environments.create(name="place")
        opened = partial(_opened, world, place.id, SqlReleases(engine))
        ids = [f"s{number}" for number in range(MANY)]
        ran = dict(zip(ids, await asyncio.gather(*map(opened, ids)), strict=True))
        assert ran == {id: version_for(canary, ("acme", id)) for id in ids}
        share = sum(version == 2 for version in ran.values()) / MANY
        error = 3 * (0.2 * 0.8 / MANY) ** 0.5
        assert abs(share - SHARE / 100) < error, share
        await change(url, "", "support", lambda old: release.rolled_back(old or canary), "bad")
        again = await asyncio.gather(*(opened(f"later-{id}") for id in ids[:50]))
        assert set(again) == {1}
        assert await opened("x", agent="support@2") == 2
        assert await opened("y", agent=f"{made.id}@2") == 2
        assert await opened("z", agent=made.id) == 2
        await engine.dispose()


async def _opened(
    world: WireWorld, environment: str, known: SqlReleases, id: str, agent: str = "support"
) -> int | None:
    parts = Parts(
        world.client, agent=None, environment=environment, model="claude-sonnet-5-5", releases=known
    )
    state = SessionState(tenant_id="acme", session_id=id, user_id="u", agent=agent)
    return (await Openings(world.client, parts).open(state, look=False)).version
