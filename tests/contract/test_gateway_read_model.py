"""One suite for the gateway's read model: in memory, on SQLite, on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy import text

from infra.postgres.migrate import migrate_async
from services.gateway.adapters.sql import SqlReadModel, open_engine
from services.gateway.ports import (
    Changes,
    ReadModel,
    Record,
    SessionFilter,
    StoredSession,
    StoredTurn,
    TurnKey,
)
from services.gateway.read_model.project import forgotten
from services.gateway.read_model.projector import Projector
from services.gateway.views import SessionPage, SessionView, TurnView, kept, session_view
from shared.bus.topics import EVENTS
from shared.errors import Transient
from shared.session import fold
from shared.session.events import TurnError, Usage
from shared.session.key import SessionKey
from shared.session.state import SessionState
from tests.builders import TENANT, opening
from tests.builders import turn as turn_of_core
from tests.fakes.gateway import MemoryReadModel, MemoryRecordConsumer
from tests.golden.record import log_of, recorded
from tests.stack import fresh_database
from tests.unit.session.specification import history

pytestmark = pytest.mark.contract
KEY: SessionKey = ("acme", "ses_1")
WRITTEN_BEFORE = """
INSERT INTO gateway_sessions (tenant_id, session_id, user_id, status, created_at, last_seq, body)
VALUES ('acme', 'ses_1', 'u1', 'idle', :at, 3, :body)
"""
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


def row(session_id: str = "ses_1", seq: int = 0, **change: object) -> StoredSession:
    """A row whose state knows all its events."""
    known = SessionState(tenant_id="acme", session_id=session_id, last_seq=seq) if seq else None
    return StoredSession(page(session_id, seq, **change), known)


def turn(status: str = "accepted", **change: object) -> TurnView:
    view = TurnView(
        turn_id="t1", session_id="ses_1", user_id="u1", status="accepted", submitted_at="x"
    )
    return replace(view, status=status, **change)


def asked(
    sessions: Mapping[SessionKey, SessionPage], turns: Mapping[TurnKey, TurnView] | None = None
) -> Changes:
    """Sessions and turns of which there are no events."""
    return Changes(
        {key: StoredSession(one) for key, one in sessions.items()},
        {key: StoredTurn(one) for key, one in (turns or {}).items()},
    )


async def test_what_was_never_written_is_not_there(model: ReadModel) -> None:
    assert await model.session(KEY) is None
    assert await model.turn(TURN) is None
    assert await model.load([KEY]) == {}
    assert list(await model.sessions(SessionFilter("acme"))) == []
    await model.check()


async def test_what_was_written_comes_back_whole(model: ReadModel) -> None:
    title = "a\x00b 😀 'quoted' \\ \u2028"
    full = page(title=title, metadata={"k": "v"}, budget_usd=1.5, usage=Usage(input_tokens=7))
    done = turn("failed", reply=title, error=TurnError(type="e", message=title), cost_usd=0.25)
    state = fold(history(opening(title=title), turn_of_core("t1", title), turn_of_core("t2")))
    stored = StoredSession(full, state)
    await model.save(Changes({KEY: stored}, {TURN: StoredTurn(done, 4)}))
    assert await model.session(KEY) == full
    assert await model.turn(TURN) == done
    assert await model.load([KEY]) == {KEY: stored}


async def test_what_is_only_asked_for_leaves_what_is_there(model: ReadModel) -> None:
    await model.save(Changes({KEY: row(seq=3)}, {TURN: StoredTurn(turn("running"), 3)}))
    await model.save(asked({KEY: page(), ("acme", "ses_2"): page("ses_2")}, {TURN: turn()}))
    await model.save(asked({KEY: page(title="other")}))
    found = await model.session(KEY)
    assert found is not None
    assert (found.view.last_seq, found.view.title) == (3, None)
    assert (await model.turn(TURN)) == turn("running")
    assert await model.session(("acme", "ses_2")) is not None


async def test_a_turn_asked_for_twice_is_the_first_one(model: ReadModel) -> None:
    for trace_id in ("first", "second"):
        await model.save(asked({}, {TURN: turn(trace_id=trace_id)}))
    assert await model.turn(TURN) == turn(trace_id="first")


async def test_opening_tells_what_stands(model: ReadModel) -> None:
    assert await model.open(page(title="first")) == page(title="first")
    assert await model.open(page(title="second")) == page(title="first")
    assert await model.session(KEY) == page(title="first")


async def test_of_many_that_open_one_session_at_once_the_first_counts(model: ReadModel) -> None:
    wishes = [page(title=str(number), created_at=f"2026-{number:03}") for number in range(60)]
    stand = await asyncio.gather(*(model.open(wish) for wish in wishes))
    assert len({one.view.title for one in stand}) == 1
    assert await model.session(KEY) == stand[0]


async def test_a_thousand_at_once_share_a_few_connections(model: ReadModel) -> None:
    keys = [("acme", f"ses_{number}") for number in range(500)]
    made = await asyncio.gather(*(model.open(page(key[1])) for key in keys))
    assert [one.view.session_id for one in made] == [key[1] for key in keys]
    turns = (model.turn((*key, "t1")) for key in keys)
    sessions = (model.session(key) for key in keys)
    found = await asyncio.gather(*sessions, *turns, *(model.session(key) for key in keys))
    assert found == [*made, *[None] * 500, *made]


async def test_a_row_that_is_further_on_stays(model: ReadModel) -> None:
    await model.save(Changes({KEY: row(seq=5)}, {TURN: StoredTurn(turn("completed"), 5)}))
    await model.save(Changes({KEY: row(seq=4)}, {TURN: StoredTurn(turn("running"), 4)}))
    assert await model.session(KEY) == page(seq=5)
    assert await model.turn(TURN) == turn("completed")
    await model.save(Changes({KEY: row(seq=5, title="T")}))
    assert await model.session(KEY) == page(seq=5, title="T")


async def test_a_state_that_knows_more_stays(model: ReadModel) -> None:
    """The projector counts on while another process folds what it missed."""
    await model.save(Changes({KEY: row(seq=5)}))
    for less in (None, row(seq=3).state):
        await model.save(Changes({KEY: StoredSession(page(seq=7), less)}))
        found = (await model.load([KEY]))[KEY]
        assert (found.page.view.last_seq, found.state) == (7, row(seq=5).state)
    await model.save(Changes({KEY: row(seq=7)}))
    assert (await model.load([KEY]))[KEY] == row(seq=7)


async def test_rows_that_are_behind_are_found_page_by_page(model: ReadModel) -> None:
    ids = [f"ses_{n}" for n in range(6)]
    await model.save(Changes({("acme", id): StoredSession(page(id, 3)) for id in ids[:3]}))
    await model.save(Changes({("acme", id): row(id, 3) for id in ids[3:5]}))
    await model.save(asked({("acme", "ses_5"): page("ses_5")}))
    other = StoredSession(page("ses_0", 4, tenant_id="other"), row("ses_0", 2).state)
    await model.save(Changes({("other", "ses_0"): other}))
    first = await model.behind(("", ""), 2)
    assert list(first) == [("acme", "ses_0"), ("acme", "ses_1")]
    assert list(await model.behind(first[-1], 5)) == [("acme", "ses_2"), ("other", "ses_0")]
    assert list(await model.behind(("other", "ses_0"), 5)) == []


@pytest.mark.parametrize("name", sorted(recorded()))
async def test_every_golden_log_is_kept_as_the_core_folds_it(model: ReadModel, name: str) -> None:
    events = [replace(event, session_id=name) for event in log_of(name)]
    for event in events:
        about = msgspec.json.encode(event)
        feed = MemoryRecordConsumer([[Record(EVENTS.name, 0, 0, name.encode(), about, [])]])
        await Projector(feed, model, lambda _: True).step()
    stored = (await model.load([(TENANT, name)]))[TENANT, name]
    state = fold(events)
    state = forgotten(state) if state.status == "erased" else kept(state)
    assert (stored.page.view, stored.state) == (session_view(state, ""), state)
    listed = await model.sessions(SessionFilter(TENANT, status=stored.page.view.status))
    assert stored.page in listed


async def test_a_row_of_the_build_before_is_read_and_is_behind(
    tmp_path: Path, postgres_server: str
) -> None:
    body = {"view": msgspec.to_builtins(page(seq=3).view), "waiting": ["t2"], "parked": []}
    values = {"body": msgspec.json.encode(body).decode(), "at": "2026"}
    async with fresh_database(postgres_server) as url:
        for place in (f"sqlite+aiosqlite:///{tmp_path}/gateway.db", url):
            await migrate_async(place)
            engine = open_engine(place, 1)
            async with engine.begin() as connection:
                await connection.execute(text(WRITTEN_BEFORE), values)
            model = SqlReadModel(engine)
            assert await model.load([KEY]) == {KEY: StoredSession(page(seq=3))}
            assert list(await model.behind(("", ""), 9)) == [KEY]
            async with engine.begin() as connection:
                unreadable = "UPDATE gateway_sessions SET state = :state, folded = 3"
                await connection.execute(text(unreadable), {"state": b'{"status": "other"}'})
            assert await model.load([KEY]) == {KEY: StoredSession(page(seq=3))}
            await model.stop()


async def test_forgotten_sessions_lose_their_turns_only(model: ReadModel) -> None:
    other = ("acme", "ses_2", "t1")
    await model.save(asked({KEY: page()}, {TURN: turn(), other: turn()}))
    await model.save(Changes({KEY: row(seq=1)}, forgotten={KEY}))
    assert await model.turn(TURN) is None
    assert await model.turn(other) is not None
    assert await model.session(KEY) is not None


async def test_a_key_stands_for_what_was_claimed_first(model: ReadModel) -> None:
    one, two, other = ("acme", "ses_1", "k1"), ("acme", "ses_1", "k2"), ("acme", "ses_2", "k1")
    assert await model.claim({one: "t1"}) == {one: "t1"}
    assert await model.claim({two: "t9", one: "t2"}) == {one: "t1", two: "t9"}
    assert await model.claimed(other) is None
    assert await model.claim({other: "t3"}) == {other: "t3"}
    assert [await model.claimed(key) for key in (one, two, other)] == ["t1", "t9", "t3"]
    await model.save(Changes({KEY: row(seq=1)}, forgotten={KEY}))
    assert await model.claimed(one) is None
    assert await model.claim({one: "t4", other: "t4"}) == {one: "t4", other: "t3"}


async def test_processes_that_race_for_keys_are_told_the_same(
    tmp_path: Path, postgres_server: str
) -> None:
    async with fresh_database(postgres_server) as url:
        for place in (f"sqlite+aiosqlite:///{tmp_path}/gateway.db", url):
            await migrate_async(place)
            models = [SqlReadModel(open_engine(place, 4)) for _ in range(3)]
            first, *others = await asyncio.gather(
                *(_claimed(models[number % 3], f"{number}") for number in range(6))
            )
            assert len(first) == 60
            assert all(told == first for told in others)
            for model in models:
                await model.stop()


async def _claimed(model: SqlReadModel, by: str) -> dict[tuple[str, str, str], str]:
    """What sixty keys stand for after they were claimed, some times from the last one on."""
    keys = [("acme", "ses_1", f"k{n}") for n in range(60)]
    order = keys if int(by) % 2 else keys[::-1]
    found: dict[tuple[str, str, str], str] = {}
    for start in range(0, 60, 20):
        found |= await model.claim({key: f"{key[2]}-of-{by}" for key in order[start : start + 20]})
    return found


async def test_lists_are_newest_first_and_filtered(model: ReadModel) -> None:
    pages = {("acme", f"ses_{n}"): page(f"ses_{n}") for n in range(1, 6)}
    pages["acme", "ses_3"] = page("ses_3", user_id="u2", status="running")
    await model.save(asked(pages))
    await model.save(asked({("other", "ses_9"): page("ses_9", tenant_id="other")}))

    async def ids(wanted: SessionFilter) -> list[str]:
        return [found.view.session_id for found in await model.sessions(wanted)]

    assert await ids(SessionFilter("acme", limit=2)) == ["ses_5", "ses_4"]
    before = (pages["acme", "ses_4"].view.created_at, "ses_4")
    assert await ids(SessionFilter("acme", before=before)) == ["ses_3", "ses_2", "ses_1"]
    assert await ids(SessionFilter("acme", user_id="u2")) == ["ses_3"]
    assert await ids(SessionFilter("acme", status="running")) == ["ses_3"]
    assert await ids(SessionFilter("acme", user_id="u1", status="running")) == []
    assert await ids(SessionFilter("nobody")) == []


async def test_sessions_of_the_same_time_are_paged_by_id(model: ReadModel) -> None:
    same = {("acme", f"ses_{n}"): page(f"ses_{n}", created_at="2026") for n in range(4)}
    await model.save(asked(same))
    first = await model.sessions(SessionFilter("acme", limit=2))
    last = first[-1].view
    rest = await model.sessions(SessionFilter("acme", before=(last.created_at, last.session_id)))
    assert [found.view.session_id for found in [*first, *rest]] == [
        f"ses_{n}" for n in (3, 2, 1, 0)
    ]


async def test_two_writers_at_once_leave_the_newest_rows(model: ReadModel) -> None:
    keys = [("acme", f"ses_{n}") for n in range(40)]

    async def write(order: int) -> None:
        for seq in range(1, 6):
            await model.save(Changes({key: row(key[1], seq=seq) for key in keys[::order]}))

    await asyncio.gather(write(1), write(-1))
    found = await model.load(keys)
    assert {(one.page.view.last_seq, one.folded) for one in found.values()} == {(5, 5)}


async def test_connections_that_the_server_closed_are_made_anew(postgres_server: str) -> None:
    async with fresh_database(postgres_server) as url, opened(url) as model:
        await model.open(page())
        other = await asyncpg.connect(url.replace("+asyncpg", ""))
        others = (
            "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert await other.fetch(f"SELECT pg_terminate_backend(pid) {others}")
        while await other.fetchval(f"SELECT count(*) {others}"):
            await other.execute("SELECT pg_sleep(0.01)")
        await other.close()
        assert await model.session(KEY) == page()
        assert await model.open(page(title="again")) == page()


async def test_a_database_that_is_away_is_transient(tmp_path: Path) -> None:
    for url in ("postgresql+asyncpg://x@127.0.0.1:1/x", f"sqlite+aiosqlite:///{tmp_path}/no/x.db"):
        away = SqlReadModel(open_engine(url, 1))
        with pytest.raises(Transient) as caught:
            await away.session(KEY)
        assert caught.value.reason == "database_unavailable"
        await away.stop()
