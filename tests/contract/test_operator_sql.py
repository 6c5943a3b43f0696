"""What the operator's audit and erasure read of the services' tables, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.postgres.migrate import migrate_async
from services.agent_worker.adapters.engine import make_engine, store_on
from services.gateway.adapters.sql import SqlReadModel, open_engine
from services.gateway.adapters.users import SqlUsers
from services.gateway.ports import Changes, StoredSession, StoredTurn
from services.gateway.views import ProfileView
from services.operator.audits import inbox
from services.operator.erasing.sql import sql_stores
from tests.contract.store_rows import KEY, LEASE, OTHER, asked
from tests.contract.test_gateway_read_model import page, turn
from tests.stack import fresh_database

pytestmark = pytest.mark.contract
ELSEWHERE = ("zeta", KEY[1])


@pytest.fixture(params=["sqlite", "postgres"])
async def url(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_server: str
) -> AsyncIterator[str]:
    """A migrated database with three sessions, one id in two tenants; the first has a row at the gateway."""
    if request.param == "sqlite":
        url = f"sqlite+aiosqlite:///{tmp_path}/both.db"
        await _filled(url)
        yield url
    else:
        async with fresh_database(postgres_server) as url:
            await _filled(url)
            yield url


async def _filled(url: str) -> None:
    await migrate_async(url)
    engine = make_engine(url, pool=2)
    store = store_on(engine)
    await store.file([asked("t1"), asked("t2"), asked("t1", OTHER), asked("t1", ELSEWHERE)])
    await engine.dispose()
    model = SqlReadModel(open_engine(url, 2))
    turns = {
        (*KEY, "t1"): StoredTurn(turn("accepted"), 1),
        (*KEY, "t2"): StoredTurn(turn("done"), 2),
    }
    await model.save(Changes({KEY: StoredSession(page(KEY[1]))}, turns))
    await model.claim({(*KEY, "k1"): "t1"})
    await model.stop()


async def test_heads_come_in_pages_of_all_tenants_or_of_one(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "PAGE", 2)
    async with inbox.opened(url) as opened:
        pages = [[(h.tenant_id, h.session_id) for h in p] async for p in opened.heads("")]
        of_one = [[(h.tenant_id, h.session_id) for h in p] async for p in opened.heads("zeta")]
    assert (pages, of_one) == ([[KEY, OTHER], [ELSEWHERE]], [[ELSEWHERE]])


async def test_the_inputs_of_one_session_come_in_their_order(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "PAGE", 1)
    async with inbox.opened(url) as opened:
        found = await opened.asked(*KEY)
        head = await opened.head(*KEY)
        assert await opened.owners(KEY[1]) == ["acme", "zeta"]
        assert await opened.head("nobody", KEY[1]) is None
    assert [one.input_id for one in found] == ["turn:t1", "turn:t2"]
    assert head is not None
    assert (head.filed, head.taken, head.position) == (2, 0, 0)


async def test_a_session_is_made_due_unless_a_worker_has_it(url: str) -> None:
    engine = make_engine(url, pool=2)
    store = store_on(engine)
    async with inbox.opened(url) as opened:
        assert await opened.wake(*KEY, 1e12)
        assert await store.due() == 2
        assert await opened.wake(*KEY, 0.0)
        await store.claim("w", 10, LEASE)
        assert not await opened.wake(*KEY, 0.0)
    await engine.dispose()


async def test_traces_of_a_session_are_counted_by_table(url: str) -> None:
    async with sql_stores(url) as stores:
        assert await stores.owners(KEY[1]) == ["acme", "zeta"]
        assert await stores.of_user("acme", "u1") == [KEY[1]]
        assert await stores.of_user("zeta", "u1") == []
        traces = await stores.traces(*KEY)
        nothing = await stores.traces("nobody", KEY[1])
    assert traces.user == "u1"
    assert traces.rows == {
        "worker_heads": 1,
        "worker_inbox": 2,
        "worker_conversations": 0,
        "gateway_sessions": 1,
        "gateway_turns": 2,
        "gateway_keys": 1,
        "gateway_user_sessions": 0,
    }
    assert {"worker_inbox: 2 inputs", "gateway_turns: 1 turns"} <= set(traces.left)
    assert set(nothing.rows.values()) == {0}
    assert nothing.left == ()


async def test_what_is_kept_of_a_user_is_counted_and_deleted(url: str) -> None:
    model = SqlReadModel(open_engine(url, 2))
    users = SqlUsers(model.engine)
    for tenant, user in (("acme", "u1"), ("acme", "u2"), ("zeta", "u1")):
        await users.put_profile(tenant, ProfileView(user_id=user, facts=["a"], updated_at="now"))
        await users.hold((tenant, user, "user"), None, KEY[1])
    async with sql_stores(url) as stores:
        mine = {"gateway_profiles": 1, "gateway_user_sessions": 1}
        assert await stores.of_user_itself("acme", "u1") == mine
        assert await stores.of_user_itself("acme", "nobody") == {}
        await stores.forget("acme", "u1")
        assert await stores.of_user_itself("acme", "u1") == {}
        assert await stores.of_user_itself("acme", "u2") == mine
        assert await stores.of_user_itself("zeta", "u1") == mine
    assert await users.profile("acme", "u1") is None
    await model.stop()
