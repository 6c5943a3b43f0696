"""One suite for what the gateway keeps of users: in memory, on SQLite, on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra.postgres.migrate import migrate_async
from services.agent_worker.adapters.engine import make_engine
from services.agent_worker.adapters.profiles import SqlProfiles
from services.gateway.adapters.sql import SqlReadModel, open_engine
from services.gateway.adapters.users import SqlUsers
from services.gateway.ports import Changes, UserScope, UserSessions
from services.gateway.views import ProfileView
from shared.errors import Transient
from tests.fakes.gateway import MemoryUsers
from tests.stack import fresh_database

pytestmark = pytest.mark.contract
SCOPE: UserScope = ("acme", "u1", "user")
OTHERS: list[UserScope] = [("acme", "u1", "agent:a"), ("acme", "u2", "user"), ("b", "u1", "user")]


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def users(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_server: str
) -> AsyncIterator[UserSessions]:
    if request.param == "memory":
        yield MemoryUsers()
    elif request.param == "sqlite":
        async with opened(f"sqlite+aiosqlite:///{tmp_path}/users.db") as (_, sql):
            yield sql
    else:
        async with fresh_database(postgres_server) as url, opened(url) as (_, sql):
            yield sql


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[SqlReadModel, SqlUsers]]:
    """A migrated database, closed at the end."""
    await migrate_async(url)
    model = SqlReadModel(open_engine(url, 4))
    yield model, SqlUsers(model.engine)
    await model.stop()


async def test_a_scope_has_what_was_put_there_first(users: UserSessions) -> None:
    assert await users.held(SCOPE) is None
    assert await users.hold(SCOPE, None, "ses_1") == "ses_1"
    assert await users.hold(SCOPE, None, "ses_2") == "ses_1"
    assert await users.held(SCOPE) == "ses_1"
    for number, other in enumerate(OTHERS):
        assert await users.held(other) is None
        assert await users.hold(other, None, f"other_{number}") == f"other_{number}"


async def test_it_is_replaced_by_who_knows_what_was_there(users: UserSessions) -> None:
    await users.hold(SCOPE, None, "ses_1")
    assert await users.hold(SCOPE, "ses_0", "ses_2") == "ses_1"
    assert await users.hold(SCOPE, "ses_1", "ses_2") == "ses_2"
    assert await users.hold(SCOPE, "ses_1", "ses_3") == "ses_2"
    assert await users.held(SCOPE) == "ses_2"


async def test_one_of_those_who_open_it_is_told_so(users: UserSessions) -> None:
    assert not await users.opened(SCOPE, "ses_1")
    await users.hold(SCOPE, None, "ses_1")
    assert not await users.opened(SCOPE, "ses_2")
    told = await asyncio.gather(*(users.opened(SCOPE, "ses_1") for _ in range(9)))
    assert sorted(told) == [False] * 8 + [True]
    await users.hold(SCOPE, "ses_1", "ses_2")
    assert await users.opened(SCOPE, "ses_2")
    assert not await users.opened(SCOPE, "ses_2")


async def test_an_ended_session_is_nobodys(users: UserSessions) -> None:
    for scope in (SCOPE, *OTHERS):
        await users.hold(scope, None, "ses_1")
    await users.end(("acme", "ses_1"))
    await users.end(("acme", "ses_9"))
    assert [await users.held(scope) for scope in (SCOPE, *OTHERS)] == ["", "", "", "ses_1"]
    assert await users.hold(SCOPE, "", "ses_2") == "ses_2"


async def test_many_are_looked_up_at_once(users: UserSessions) -> None:
    scopes: list[UserScope] = [("acme", f"u{number}", "user") for number in range(100)]
    for scope in scopes[::2]:
        await users.hold(scope, None, f"ses_{scope[1]}")
    found = await asyncio.gather(*(users.held(scope) for scope in [*scopes, *scopes]))
    assert found == [f"ses_{s[1]}" if n % 2 == 0 else None for n, s in enumerate(scopes)] * 2


async def test_processes_that_race_agree(tmp_path: Path, postgres_server: str) -> None:
    async with fresh_database(postgres_server) as url:
        for place in (f"sqlite+aiosqlite:///{tmp_path}/users.db", url):
            async with opened(place) as (_, one), opened(place) as (_, two):
                before: str | None = None
                for turn in range(5):
                    wishes = (
                        (one, two)[number % 2].hold(SCOPE, before, f"ses_{turn}_{number}")
                        for number in range(32)
                    )
                    told = set(await asyncio.gather(*wishes))
                    assert len(told) == 1
                    before = told.pop()
                    assert before.startswith(f"ses_{turn}_")


async def test_with_its_session_the_row_is_forgotten(tmp_path: Path, postgres_server: str) -> None:
    async with fresh_database(postgres_server) as url:
        for place in (f"sqlite+aiosqlite:///{tmp_path}/users.db", url):
            async with opened(place) as (model, users):
                await users.hold(SCOPE, None, "ses_1")
                await users.hold(OTHERS[0], None, "ses_2")
                await model.save(Changes(forgotten={("acme", "ses_1")}))
                assert await users.held(SCOPE) is None
                assert await users.held(OTHERS[0]) == "ses_2"


def profile(user_id: str = "u1", **fields: Any) -> ProfileView:
    fields = {"preferences": {"k": "</user_profile> \x00"}, "facts": ["é", "two"], **fields}
    return ProfileView(user_id=user_id, updated_at="2026-11-21T12:00:00.000000Z", **fields)


async def test_a_profile_comes_back_as_it_was_put(users: MemoryUsers | SqlUsers) -> None:
    assert await users.profile("acme", "u1") is None
    await users.put_profile("acme", profile())
    await users.put_profile("acme", profile("u2", facts=["of u2"]))
    await users.put_profile("other", profile(preferences={"n": 1, "b": True, "f": 0.5}))
    assert await users.profile("acme", "u1") == profile()
    assert await users.profile("acme", "u2") == profile("u2", facts=["of u2"])
    found = await users.profile("other", "u1")
    assert found is not None
    assert [type(value) for value in found.preferences.values()] == [int, bool, float]
    await users.put_profile("acme", profile(facts=[]))
    assert await users.profile("acme", "u1") == profile(facts=[])
    await users.put_profile("acme", ProfileView(user_id="u1"))
    assert await users.profile("acme", "u1") is None


async def test_a_worker_reads_what_the_gateway_wrote(tmp_path: Path, postgres_server: str) -> None:
    async with fresh_database(postgres_server) as url:
        for place in (f"sqlite+aiosqlite:///{tmp_path}/users.db", url):
            async with opened(place) as (_, users):
                await users.put_profile("acme", profile())
                await users.put_profile("other", profile("u2"))
                engine = make_engine(place, pool=2)
                read = SqlProfiles(engine)
                who = [("acme", "u1"), ("acme", "u2"), ("other", "u2"), ("acme", "u1")]
                found = await asyncio.gather(*(read.of(*one) for one in who))
                assert [bool(body) for body in found] == [True, False, True, True]
                assert "\n" not in found[0]
                kept = msgspec.json.decode(found[0])
                assert kept == {"preferences": profile().preferences, "facts": profile().facts}
                await engine.dispose()
    away = make_engine("postgresql+asyncpg://x@127.0.0.1:1/x", pool=1)
    with pytest.raises(Transient):
        await SqlProfiles(away).of("acme", "u1")


async def test_a_database_that_is_away_is_transient(tmp_path: Path) -> None:
    for url in ("postgresql+asyncpg://x@127.0.0.1:1/x", f"sqlite+aiosqlite:///{tmp_path}/no/x.db"):
        away = SqlReadModel(open_engine(url, 1))
        users = SqlUsers(away.engine)
        for call in (users.held(SCOPE), users.hold(SCOPE, None, "s"), users.end(("acme", "s"))):
            with pytest.raises(Transient) as caught:
                await call
            assert caught.value.reason == "database_unavailable"
        await away.stop()
