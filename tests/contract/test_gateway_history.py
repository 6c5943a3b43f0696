"""One suite each for what the gateway reads history from: the archive and the log, in memory and real."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Protocol

import clickhouse_connect
import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from msgspec.structs import replace

from infra.clickhouse.migrate import migrate
from services.gateway.adapters.clickhouse import ClickHouseEventArchive
from services.gateway.adapters.kafka_log import KafkaEventLog
from services.gateway.ports import Entry, EventArchive, EventLog
from shared.archive_insert import SETTINGS
from shared.bus.topics import EVENTS
from shared.clock import utcnow
from shared.errors import Transient
from shared.session import Event
from shared.session.key import SessionKey
from shared.settings import KafkaSettings
from tests.builders import TENANT, Wire, bound, seen, turn
from tests.clickhouse_server import fresh_database
from tests.fakes.gateway import MemoryEventArchive, MemoryEventLog
from tests.unit.session.specification import history

pytestmark = pytest.mark.contract
_sessions = itertools.count(1)


@pytest.fixture
def key() -> SessionKey:
    """A session nobody else speaks of."""
    return TENANT, f"ses_history_{next(_sessions)}"


def events_of(key: SessionKey) -> list[Event]:
    """A turn: eleven events or so, with the provider's own spacing, escapes and a child thread."""
    wire = Wire()
    odd = replace(
        wire.message("x"),
        raw=rb'{ "id":"odd", "type":"agent.message","b":1.0e2, "a":"\u00e9\/\ud83d\ude00" }',
    )
    aside = wire.message("aside", thread="sthr_1")
    told = history(
        turn("t1", "où? 🎈"), bound(), seen(wire.prompt(), odd, aside), seen(*wire.reply())
    )
    return [replace(event, tenant_id=key[0], session_id=key[1]) for event in told]


def values_of(events: Sequence[Event]) -> list[bytes]:
    return [msgspec.json.encode(event) for event in events]


def entries_of(events: Sequence[Event]) -> list[Entry]:
    return [Entry(e.seq, e.type, e.at, msgspec.json.encode(e)) for e in events]


# ---- the archive ----------------------------------------------------------------------------------------------


class Shelf(Protocol):
    """An archive and the recorder's hand in it."""

    @property
    def archive(self) -> EventArchive: ...
    async def put(self, events: Sequence[Event]) -> None: ...


class MemoryShelf:
    def __init__(self) -> None:
        self.archive = MemoryEventArchive()

    async def put(self, events: Sequence[Event]) -> None:
        for event in events:
            entries = self.archive.entries.setdefault((event.tenant_id, event.session_id), [])
            if all(entry.seq != event.seq for entry in entries):
                entries += entries_of([event])
            entries.sort(key=lambda entry: entry.seq)


class ClickHouseShelf:
    def __init__(self, url: str) -> None:
        self._url = url
        self.archive = ClickHouseEventArchive(url)

    async def put(self, events: Sequence[Event]) -> None:
        body = b"\n".join(values_of(events))

        def insert() -> None:
            client = clickhouse_connect.get_client(dsn=self._url, autogenerate_session_id=False)
            settings = dict(SETTINGS)
            client.raw_insert(
                "session_events", insert_block=body, fmt="JSONEachRow", settings=settings
            )
            client.close()

        await asyncio.to_thread(insert)


@pytest.fixture(scope="module", params=["memory", "clickhouse"])
async def shelf(request: pytest.FixtureRequest) -> AsyncIterator[Shelf]:
    if request.param == "memory":
        yield MemoryShelf()
        return
    url = fresh_database(request.getfixturevalue("clickhouse_url"))
    await asyncio.to_thread(migrate, url, say=lambda _: None)
    real = ClickHouseShelf(url)
    yield real
    await real.archive.stop()


async def test_an_archive_has_nothing_of_a_session_it_does_not_know(
    shelf: Shelf, key: SessionKey
) -> None:
    assert list(await shelf.archive.page(key, 0, 10)) == []
    await shelf.archive.check()


async def test_archived_events_are_the_bytes_that_were_on_the_log(
    shelf: Shelf, key: SessionKey
) -> None:
    events = events_of(key)
    await shelf.put(events)
    assert list(await shelf.archive.page(key, 0, 1_000)) == entries_of(events)


async def test_pages_go_on_after_a_seq_and_have_a_limit(shelf: Shelf, key: SessionKey) -> None:
    events = events_of(key)
    await shelf.put(events)
    first = await shelf.archive.page(key, 0, 4)
    second = await shelf.archive.page(key, 4, 3)
    assert [entry.seq for entry in first] == [1, 2, 3, 4]
    assert [entry.seq for entry in second] == [5, 6, 7]
    assert list(await shelf.archive.page(key, events[-1].seq, 10)) == []


async def test_rows_that_come_late_and_twice_are_in_order_and_once(
    shelf: Shelf, key: SessionKey
) -> None:
    events = events_of(key)
    await shelf.put(events[5:])
    assert list(await shelf.archive.page(key, 0, 2)) == []
    assert [e.seq for e in await shelf.archive.page(key, 0, 7)] == [6, 7]
    await shelf.put(events[:7])
    assert list(await shelf.archive.page(key, 0, 1_000)) == entries_of(events)


async def test_a_session_of_another_tenant_is_another_session(
    shelf: Shelf, key: SessionKey
) -> None:
    theirs = ("other", key[1])
    await shelf.put(events_of(key)[:3])
    await shelf.put(events_of(theirs)[:2])
    assert len(await shelf.archive.page(key, 0, 10)) == 3
    assert len(await shelf.archive.page(theirs, 0, 10)) == 2


@pytest.mark.parametrize("real", [False, True], ids=["memory", "clickhouse"])
async def test_an_archive_that_is_away_is_transient(real: bool, key: SessionKey) -> None:
    away: EventArchive = MemoryEventArchive(down=True)
    if real:
        away = ClickHouseEventArchive("http://default:@127.0.0.1:9/turnstile")
    with pytest.raises(Transient) as caught:
        await away.page(key, 0, 10)
    assert caught.value.reason == "archive_unavailable"
    with pytest.raises(Transient):
        await away.check()


# ---- the log --------------------------------------------------------------------------------------------------


class Bus(Protocol):
    """A log and the worker's hand in it."""

    @property
    def log(self) -> EventLog: ...
    async def put(self, events: Sequence[Event]) -> None: ...


class MemoryBus:
    def __init__(self) -> None:
        self.log = MemoryEventLog()

    async def put(self, events: Sequence[Event]) -> None:
        for event in events:
            key = (event.tenant_id, event.session_id)
            self.log.entries.setdefault(key, []).extend(entries_of([event]))


class KafkaBus:
    def __init__(self, bootstrap: str) -> None:
        self.log = KafkaEventLog(KafkaSettings(kafka_bootstrap=bootstrap))
        self._bootstrap = bootstrap

    async def put(self, events: Sequence[Event]) -> None:
        await self.put_raw(events[0].session_id, values_of(events))

    async def put_raw(self, session_id: str, values: Sequence[bytes | None]) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks="all") as producer:
            for value in values:
                await producer.send_and_wait(EVENTS.name, value, key=session_id.encode())


@pytest.fixture(params=["memory", "kafka"])
async def bus(request: pytest.FixtureRequest, kafka_bootstrap: str) -> Bus:
    return MemoryBus() if request.param == "memory" else KafkaBus(kafka_bootstrap)


async def scanned(log: EventLog, key: SessionKey, after: int = 0) -> list[Entry]:
    since = utcnow() - timedelta(minutes=5)
    async with asyncio.timeout(20):
        return [entry async for entry in log.scan(key, since, after)]


async def test_a_log_read_back_gives_a_session_as_it_was_said(bus: Bus, key: SessionKey) -> None:
    events = events_of(key)
    await bus.put(events)
    assert await scanned(bus.log, key) == entries_of(events)
    assert await scanned(bus.log, key, after=4) == entries_of(events[4:])
    assert await scanned(bus.log, key, after=events[-1].seq) == []


async def test_a_log_gives_repeats_as_they_are(bus: Bus, key: SessionKey) -> None:
    events = events_of(key)[:3]
    await bus.put([*events, *events[1:]])
    assert [entry.seq for entry in await scanned(bus.log, key)] == [1, 2, 3, 2, 3]


async def test_a_log_tells_tenants_and_sessions_apart(bus: Bus, key: SessionKey) -> None:
    theirs = ("other", key[1])
    await bus.put(events_of(theirs)[:2])
    await bus.put(events_of(key)[:3])
    assert await scanned(bus.log, key) == entries_of(events_of(key)[:3])
    assert await scanned(bus.log, (TENANT, "ses_history_unknown")) == []


async def test_what_cannot_be_read_on_the_log_is_passed_over(
    kafka_bootstrap: str, key: SessionKey
) -> None:
    bus, events = KafkaBus(kafka_bootstrap), events_of(key)[:2]
    first, second = values_of(events)
    await bus.put_raw(key[1], [first, b"{no json", None, b'"text"', second])
    assert await scanned(bus.log, key) == entries_of(events)


async def test_what_was_said_before_is_left_out(kafka_bootstrap: str, key: SessionKey) -> None:
    bus = KafkaBus(kafka_bootstrap)
    await bus.put(events_of(key))
    late = utcnow() + timedelta(minutes=1)
    assert [entry async for entry in bus.log.scan(key, late, 0)] == []


@pytest.mark.parametrize("real", [False, True], ids=["memory", "kafka"])
async def test_a_log_that_is_away_is_transient(real: bool, key: SessionKey) -> None:
    away: EventLog = MemoryEventLog(down=True)
    if real:
        away = KafkaEventLog(KafkaSettings(kafka_bootstrap="127.0.0.1:9"))
    with pytest.raises(Transient) as caught:
        await scanned(away, key)
    assert caught.value.reason == "kafka_unavailable"
