"""One suite for the gateway's read model: in memory, on SQLite, on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from infra.postgres.migrate import migrate_async
from services.gateway.adapters.sql import SqlReadModel, open_engine
from services.gateway.ports import Changes, ReadModel, SessionFilter, SessionKey, StoredTurn
from services.gateway.views import SessionPage, SessionView, TurnView
from shared.errors import Transient
from shared.session.events import TurnError, Usage
from tests.fakes.gateway import MemoryReadModel
from tests.stack import fresh_database

pytestmark = pytest.mark.contract
KEY: SessionKey = ("acme", "ses_1")
TURN = (*KEY, "t1")


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def model(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_server: str
) -> AsyncIterator[ReadModel]:
    if request.param == "memory":
        yield MemoryReadModel()
    elif request.param == "sqlite":
        async with opened(f"sqlite+aiosqlite:///{tmp_path}/new/gateway.db") as sql:
            yield sql
    else:
        async with fresh_database(postgres_server) as url, opened(url) as sql:
            yield sql


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[SqlReadModel]:
    """A migrated SQL read model, closed at the end."""
    await migrate_async(url)
    model = SqlReadModel(open_engine(url, 4))
    yield model
    await model.stop()


def page(session_id: str = "ses_1", seq: int = 0, **change: object) -> SessionPage:
    view = SessionView(
        session_id=session_id,
        tenant_id="acme",
        user_id="u1",
        status="idle",
        created_at=f"2026-11-21T12:00:00.{session_id[-1]:0>6}Z",
        last_seq=seq,
    )
    return SessionPage(view=replace(view, **change))


def turn(status: str = "accepted", **change: object) -> TurnView:
    view = TurnView(
        turn_id="t1", session_id="ses_1", user_id="u1", status="accepted", submitted_at="x"
    )
    return replace(view, status=status, **change)


async def test_what_was_never_written_is_not_there(model: ReadModel) -> None:
    assert await model.session(KEY) is None
    assert await model.turn(TURN) is None
    assert await model.load([KEY], [TURN]) == ({}, {})
    assert list(await model.sessions(SessionFilter("acme"))) == []
    await model.check()


async def test_what_was_written_comes_back_whole(model: ReadModel) -> None:
    title = "a\x00b 😀 'quoted' \\ \u2028"
    full = page(title=title, metadata={"k": "v"}, budget_usd=1.5, usage=Usage(input_tokens=7))
    done = turn("failed", reply=title, error=TurnError(type="e", message=title), cost_usd=0.25)
    await model.save(Changes({KEY: full}, {TURN: StoredTurn(done, 4)}))
    assert await model.session(KEY) == full
    assert await model.turn(TURN) == done
    assert await model.load([KEY], [TURN]) == ({KEY: full}, {TURN: StoredTurn(done, 4)})


async def test_adding_leaves_what_is_there(model: ReadModel) -> None:
    await model.save(Changes({KEY: page(seq=3)}, {TURN: StoredTurn(turn("running"), 3)}))
    await model.add({KEY: page(), ("acme", "ses_2"): page("ses_2")}, {TURN: turn()})
    await model.add({KEY: page(title="other")}, {})
    found = await model.session(KEY)
    assert found is not None
    assert (found.view.last_seq, found.view.title) == (3, None)
    assert (await model.turn(TURN)) == turn("running")
    assert await model.session(("acme", "ses_2")) is not None


async def test_a_row_that_is_further_on_stays(model: ReadModel) -> None:
    await model.save(Changes({KEY: page(seq=5)}, {TURN: StoredTurn(turn("completed"), 5)}))
    await model.save(Changes({KEY: page(seq=4)}, {TURN: StoredTurn(turn("running"), 4)}))
    assert await model.session(KEY) == page(seq=5)
    assert await model.turn(TURN) == turn("completed")
    await model.save(Changes({KEY: page(seq=5, title="T")}))
    assert await model.session(KEY) == page(seq=5, title="T")


async def test_forgotten_sessions_lose_their_turns_only(model: ReadModel) -> None:
    other = ("acme", "ses_2", "t1")
    await model.add({KEY: page()}, {TURN: turn(), other: turn()})
    await model.save(Changes({KEY: page(seq=1)}, forgotten={KEY}))
    assert await model.turn(TURN) is None
    assert await model.turn(other) is not None
    assert await model.session(KEY) is not None


async def test_lists_are_newest_first_and_filtered(model: ReadModel) -> None:
    pages = {("acme", f"ses_{n}"): page(f"ses_{n}") for n in range(1, 6)}
    pages["acme", "ses_3"] = page("ses_3", user_id="u2", status="running")
    await model.add(pages, {})
    await model.add({("other", "ses_9"): page("ses_9", tenant_id="other")}, {})

    async def ids(wanted: SessionFilter) -> list[str]:
        return [found.view.session_id for found in await model.sessions(wanted)]

    assert await ids(SessionFilter("acme", limit=2)) == ["ses_5", "ses_4"]
    before = (pages["acme", "ses_4"].view.created_at, "ses_4")
    assert await ids(SessionFilter("acme", before=before)) == ["ses_3", "ses_2", "ses_1"]
    assert await ids(SessionFilter("acme", user_id="u2")) == ["ses_3"]
    assert await ids(SessionFilter("acme", status="running")) == ["ses_3"]
    assert await ids(SessionFilter("acme", user_id="u1", status="running")) == []
    assert await ids(SessionFilter("nobody")) == []


async def test_same_time_pages_by_id(model: ReadModel) -> None:
    same = {("acme", f"ses_{n}"): page(f"ses_{n}", created_at="2026") for n in range(4)}
    await model.add(same, {})
    first = await model.sessions(SessionFilter("acme", limit=2))
    last = first[-1].view
    rest = await model.sessions(SessionFilter("acme", before=(last.created_at, last.session_id)))
    assert [found.view.session_id for found in [*first, *rest]] == [
        f"ses_{n}" for n in (3, 2, 1, 0)
    ]


async def test_two_writers_at_once(model: ReadModel) -> None:
    keys = [("acme", f"ses_{n}") for n in range(40)]

    async def write(order: int) -> None:
        for seq in range(1, 6):
            pages = {key: page(key[1], seq=seq) for key in keys[::order]}
            await model.save(Changes(pages))

    await asyncio.gather(write(1), write(-1))
    found, _ = await model.load(keys, [])
    assert {one.view.last_seq for one in found.values()} == {5}


async def test_a_database_that_is_away_is_transient(tmp_path: Path) -> None:
    for url in ("postgresql+asyncpg://x@127.0.0.1:1/x", f"sqlite+aiosqlite:///{tmp_path}/no/x.db"):
        away = SqlReadModel(open_engine(url, 1))
        with pytest.raises(Transient) as caught:
            await away.session(KEY)
        assert caught.value.reason == "database_unavailable"
        await away.stop()
