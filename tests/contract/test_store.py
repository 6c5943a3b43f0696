"""One suite for the worker's Store: in memory, on SQLite, on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres.migrate import migrate_async
from services.agent_worker.adapters.engine import make_engine
from services.agent_worker.adapters.store import store_on
from services.agent_worker.fakes.store import MemoryStore
from services.agent_worker.ports import Head, Key, NewInput, Store
from shared.clock import utcnow
from shared.errors import Fenced
from shared.moment import rfc3339
from shared.session import decide
from shared.session.commands import Open
from shared.session.inputs import REQUESTS, TurnRequested
from tests.builders import TENANT, TRACEPARENT, bound, seen, turn
from tests.builders import Wire as ProviderWire
from tests.stack import fresh_database

pytestmark = pytest.mark.contract
KEY: Key = (TENANT, "s1")
OTHER: Key = (TENANT, "s2")
LEASE = 60.0
EXPIRED = 0.0


@pytest.fixture(scope="module", params=["memory", "sqlite", "postgres"])
async def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres_server: str
) -> AsyncIterator[AsyncEngine | None]:
    """A migrated database; None for the store in memory."""
    if request.param == "memory":
        yield None
    elif request.param == "sqlite":
        file = tmp_path_factory.mktemp("store") / "new" / "worker.db"
        async with migrated(f"sqlite+aiosqlite:///{file}") as engine:
            yield engine
    else:
        async with fresh_database(postgres_server) as url, migrated(url) as engine:
            yield engine


@asynccontextmanager
async def migrated(url: str) -> AsyncIterator[AsyncEngine]:
    await migrate_async(url)
    engine = make_engine(url, pool=8)
    yield engine
    await engine.dispose()


@pytest.fixture
async def store(engine: AsyncEngine | None) -> Store:
    """An empty store."""
    if engine is None:
        return MemoryStore(utcnow)
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM worker_inbox"))
        await connection.execute(text("DELETE FROM worker_heads"))
    return store_on(engine)


def asked(turn_id: str = "t1", key: Key = KEY, content: object = "hello") -> NewInput:
    request = turn(turn_id, content).request
    body = msgspec.json.encode({**msgspec.to_builtins(request), "session_id": key[1]})
    return NewInput(key, f"turn:{turn_id}", "turn.requested", body, TRACEPARENT)


async def claimed(store: Store, owner: str = "a", lease: float = LEASE) -> Head:
    (head,) = await store.claim(owner, 10, lease)
    return head


def advanced(head: Head) -> Head:
    """The head after its turn was taken in and bound: state, unsaid events and a command."""
    first = decide(head.state, turn("t1", "¿qué? 🎈"))
    second = decide(first.state, bound())
    return replace(
        head,
        state=second.state,
        unsaid=first.events + second.events,
        todo=first.commands,
        position=1,
        taken=1,
    )


# ---- inbox ----------------------------------------------------------------------------------------------------


async def test_an_input_is_filed_once_for_ever(store: Store) -> None:
    assert await store.file([asked("t1"), asked("t2"), asked("t1")]) == {KEY}
    assert await store.file([asked("t1", content="another")]) == set()
    found = [unread.filed for unread in await store.unread(KEY, 0)]
    assert [filed.input_id for filed in found] == ["turn:t1", "turn:t2"]
    assert getattr(found[0].request, "content", None) == "hello"
    assert found[0].traceparent == TRACEPARENT


async def test_the_same_id_in_two_sessions_is_two_inputs(store: Store) -> None:
    foreign = ("other", "s1")
    assert await store.file([asked(), asked(key=OTHER)]) == {KEY, OTHER}
    assert await store.file([asked(key=foreign)]) == {foreign}
    assert len(await store.claim("a", 10, LEASE)) == 3


async def test_inputs_are_read_in_the_order_they_were_filed(store: Store) -> None:
    await store.file([asked(f"t{n}") for n in range(30)])
    await store.file([asked(f"u{n}") for n in range(30)])
    found = await store.unread(KEY, 0)
    expected = [f"turn:t{n}" for n in range(30)] + [f"turn:u{n}" for n in range(30)]
    assert [unread.filed.input_id for unread in found] == expected
    assert await store.unread(KEY, found[29].position) == found[30:]


async def test_one_answer_is_bounded(store: Store) -> None:
    await store.file([asked(f"t{n}") for n in range(1_005)])
    found = await store.unread(KEY, 0)
    assert len(found) == 1_000
    assert len(await store.unread(KEY, found[-1].position)) == 5


async def test_an_input_can_be_read_again(store: Store) -> None:
    await store.file([asked("t1"), asked("t2")])
    (first, _) = await store.unread(KEY, 0)
    assert await store.read(KEY, "turn:t1") == first.filed
    with pytest.raises(KeyError):
        await store.read(KEY, "turn:t9")
    with pytest.raises(KeyError):
        await store.read(OTHER, "turn:t1")


@pytest.mark.parametrize(
    "content", ["👩‍👩‍👧 \u0000\u2028 שלום " * 3, "x" * 1_048_576], ids=["script", "1 MiB"]
)
async def test_any_content_comes_back_as_it_was(store: Store, content: str) -> None:
    await store.file([asked(content=content)])
    (found,) = await store.unread(KEY, 0)
    assert isinstance(found.filed.request, TurnRequested)
    assert found.filed.request.content == content


async def test_every_kind_of_request_can_be_filed(store: Store) -> None:
    for kind in REQUESTS.keys() - {"turn.requested", "session.requested"}:
        more = {
            "tool.confirmed": {"tool_use_id": "sevt_1", "result": "deny"},
            "tool.answered": {"custom_tool_use_id": "sevt_1", "content": "42"},
        }
        data = {"tenant_id": TENANT, "session_id": "s1", "at": "2026-11-21T10:00:00Z"}
        body = msgspec.json.encode(data | more.get(kind, {}))
        await store.file([NewInput(KEY, f"ce:{kind}", kind, body)])
        assert type((await store.read(KEY, f"ce:{kind}")).request) is REQUESTS[kind]


# ---- claims ---------------------------------------------------------------------------------------------------


async def test_a_session_with_news_is_claimed_and_its_epoch_raised(store: Store) -> None:
    assert await store.claim("a", 10, LEASE) == []
    await store.file([asked()])
    head = await claimed(store, lease=EXPIRED)
    assert (head.key, head.epoch, head.version, head.state.status) == (KEY, 1, 0, "new")
    assert (await claimed(store, "b")).epoch == 2
    assert await store.claim("a", 10, LEASE) == []


async def test_no_more_are_claimed_than_wished_and_the_longest_due_first(store: Store) -> None:
    for n in range(5):
        await store.file([asked(key=(TENANT, f"s{n}"))])
        await asyncio.sleep(0.002)
    first = await store.claim("a", 2, LEASE)
    rest = await store.claim("a", 10, LEASE)
    assert {head.key[1] for head in first} == {"s0", "s1"}
    assert {head.key[1] for head in rest} == {"s2", "s3", "s4"}


async def test_two_claims_at_once_share_no_session(store: Store) -> None:
    await store.file([asked(key=(TENANT, f"s{n:03}")) for n in range(120)])
    owners = [f"owner-{n}" for n in range(6)]
    found = await asyncio.gather(*(store.claim(o, 10, LEASE) for o in owners for _ in range(2)))
    keys = [head.key for heads in found for head in heads]
    assert len(keys) == len(set(keys)) == 120


async def test_a_lease_can_be_kept(store: Store) -> None:
    await store.file([asked(), asked(key=OTHER)])
    await store.claim("a", 1, EXPIRED)
    assert len(await store.extend("a", LEASE)) == 1
    assert await store.extend("b", LEASE) == set()
    assert len(await store.claim("b", 10, LEASE)) == 1
    assert len(await store.extend("b", LEASE)) == 1


async def test_a_lease_that_was_taken_over_is_not_ones_own(store: Store) -> None:
    await store.file([asked()])
    await store.claim("a", 10, EXPIRED)
    await store.claim("b", 10, LEASE)
    assert await store.extend("a", LEASE) == set()
    assert await store.extend("b", LEASE) == {KEY}


async def test_a_session_can_be_let_go_of(store: Store) -> None:
    await store.file([asked()])
    await store.claim("a", 10, LEASE)
    await store.let_go("b", KEY, 0.0)
    assert await store.claim("b", 10, LEASE) == []
    await store.let_go("a", KEY, LEASE)
    assert await store.claim("b", 10, LEASE) == []
    assert await store.extend("a", LEASE) == set()


async def test_one_let_go_of_for_no_time_is_due(store: Store) -> None:
    await store.file([asked()])
    await store.claim("a", 10, LEASE)
    await store.let_go("a", KEY, 0.0)
    assert (await claimed(store, "b")).epoch == 2


async def test_news_of_ones_own_sessions(store: Store) -> None:
    await store.file([asked()])
    head = await claimed(store)
    assert await store.with_news("a") == {KEY}
    assert await store.with_news("b") == set()
    head = await store.write(replace(head, position=1, taken=1))
    assert await store.with_news("a") == set()
    await store.file([asked("t2")])
    assert await store.with_news("a") == {KEY}


# ---- writes ---------------------------------------------------------------------------------------------------


async def test_a_write_is_what_the_next_claim_finds(store: Store) -> None:
    await store.file([asked()])
    before = advanced(await claimed(store, lease=EXPIRED))
    written = await store.write(before)
    assert written == replace(before, version=1)
    after = await claimed(store, "b")
    assert after == replace(written, epoch=2)
    assert after.todo == (Open(turn_id="t1"),)


async def test_unsaid_events_keep_their_bytes(store: Store) -> None:
    """What the provider wrote stays as it was written: spaces, escapes, order, numbers."""
    await store.file([asked()])
    head = advanced(await claimed(store, lease=EXPIRED))
    verbatim = rb'{ "z":1.0e2,"type":"agent.message", "id":"e1","content":[], "\u00e9":"\ud83d\ude00 /\/" }'
    event = replace(ProviderWire().message(""), id="e1", raw=verbatim)
    decision = decide(head.state, seen(event))
    await store.write(replace(head, state=decision.state, unsaid=decision.events))
    (unsaid,) = (await claimed(store, "b")).unsaid
    assert bytes(unsaid.data) == verbatim
    assert msgspec.json.encode(unsaid) == msgspec.json.encode(decision.events[0])


async def test_a_write_under_an_old_epoch_is_fenced(store: Store) -> None:
    await store.file([asked()])
    old = await claimed(store, lease=EXPIRED)
    new = await claimed(store, "b", lease=EXPIRED)
    with pytest.raises(Fenced):
        await store.write(advanced(old))
    with pytest.raises(Fenced):
        await store.release(advanced(old), None)
    assert (await claimed(store, "c")) == replace(new, epoch=3)


async def test_a_write_of_an_old_version_is_fenced(store: Store) -> None:
    await store.file([asked()])
    head = await claimed(store)
    await store.write(advanced(head))
    with pytest.raises(Fenced):
        await store.write(head)
    with pytest.raises(Fenced):
        await store.release(head, None)


async def test_of_two_writes_at_once_one_wins(store: Store) -> None:
    await store.file([asked()])
    head = await claimed(store)
    writes = (store.write(replace(head, position=n, taken=n)) for n in range(8))
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert sum(isinstance(result, Head) for result in results) == 1
    assert sum(isinstance(result, Fenced) for result in results) == 7


# ---- release --------------------------------------------------------------------------------------------------


async def test_a_released_session_rests_until_there_is_news(store: Store) -> None:
    await store.file([asked()])
    await store.release(advanced(await claimed(store)), None)
    assert await store.claim("b", 10, LEASE) == []
    assert await store.file([asked("t2")]) == {KEY}
    head = await claimed(store, "b")
    assert (head.epoch, head.version, head.taken) == (2, 1, 1)


async def test_news_that_came_meanwhile_is_not_lost(store: Store) -> None:
    """Filed after the last look at the inbox and before the release: nobody else would wake the session."""
    await store.file([asked()])
    head = advanced(await claimed(store))
    await store.file([asked("t2")])
    await store.release(head, rfc3339(utcnow() + timedelta(hours=1)))
    again = await claimed(store, "b")
    assert [new.filed.input_id for new in await store.unread(KEY, again.position)][-1] == "turn:t2"


async def test_filing_does_not_shorten_a_lease(store: Store) -> None:
    await store.file([asked()])
    await claimed(store)
    await store.file([asked("t2")])
    assert await store.claim("b", 10, LEASE) == []


async def test_a_released_session_is_due_when_it_said(store: Store) -> None:
    await store.file([asked()])
    head = advanced(await claimed(store))
    await store.release(head, rfc3339(utcnow() + timedelta(hours=1)))
    assert await store.claim("b", 10, LEASE) == []
    await store.file([asked(key=OTHER)])
    other = replace(await claimed(store), taken=1, position=1)
    await store.release(other, rfc3339(utcnow() - timedelta(seconds=1)))
    assert (await claimed(store, "b")).key == OTHER


async def test_files_and_releases_race_and_no_turn_stays_behind(store: Store) -> None:
    """One owner takes in and releases as fast as it can while forty inputs are filed."""
    taken = list[str]()

    async def filing() -> None:
        for n in range(40):
            await store.file([asked(f"t{n}")])

    async def driving() -> None:
        while len(taken) < 40:
            for head in await store.claim("a", 1, LEASE):
                unread = await store.unread(KEY, head.position)
                taken.extend(new.filed.input_id for new in unread)
                position = unread[-1].position if unread else head.position
                count = head.taken + len(unread)
                await store.release(replace(head, position=position, taken=count), None)

    async with asyncio.timeout(30):
        await asyncio.gather(filing(), driving())
    assert taken == [f"turn:t{n}" for n in range(40)]


async def test_sessions_written_at_the_same_time_are_each_judged_by_their_own_epoch(
    store: Store,
) -> None:
    keys = [(TENANT, f"many-{number:03}") for number in range(300)]
    await store.file([asked("t1", key) for key in keys])
    heads = await store.claim("a", 300, LEASE)
    stale = {head.key for head in heads[::7]}
    given = [replace(head, epoch=head.epoch - 1) if head.key in stale else head for head in heads]

    results = await asyncio.gather(*(store.write(head) for head in given), return_exceptions=True)

    for head, result in zip(given, results, strict=True):
        if head.key in stale:
            assert isinstance(result, Fenced)
        else:
            assert isinstance(result, Head)
            assert (result.key, result.version) == (head.key, head.version + 1)


async def test_sessions_read_at_the_same_time_get_their_own_inputs(store: Store) -> None:
    keys = [(TENANT, f"many-{number:03}") for number in range(50)]
    await store.file([asked(f"t{n}", key) for key in keys for n in range(int(key[1][-1]))])

    unread = await asyncio.gather(*(store.unread(key, 0) for key in keys))

    for key, found in zip(keys, unread, strict=True):
        assert [new.filed.input_id for new in found] == [
            f"turn:t{n}" for n in range(int(key[1][-1]))
        ]
