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
from services.gateway.streams.history import History
from services.gateway.streams.live import Live
from shared.archive_insert import SETTINGS
from shared.bus.topics import EVENTS
from shared.clock import utcnow
from shared.errors import Transient
from shared.session import Event
from shared.session.key import SessionKey
from shared.settings import KafkaSettings
from tests.builders import TENANT, Wire, bound, seen, turn
from tests.clickhouse_server import fresh_database
from tests.fakes.gateway import MemoryEventArchive, MemoryEventLog, MemoryReadModel
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
        self._rows = dict[SessionKey, dict[int, Entry]]()

    async def put(self, events: Sequence[Event]) -> None:
        for event, entry in zip(events, entries_of(events), strict=True):
            rows = self._rows.setdefault((event.tenant_id, event.session_id), {})
            rows.setdefault(event.seq, entry)
        for key, rows in self._rows.items():
            self.archive.entries[key] = [rows[seq] for seq in sorted(rows)]


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


async def streamed(archive: EventArchive, key: SessionKey, after: int, until: int) -> bytes:
    """What the archive tells a stream. Each stretch says truly what it has."""
    told, last = list[bytes](), after
    async for stretch in archive.stretches(key, after, until):
        records = stretch.record.removesuffix(b"\n\n").split(b"\n\n")
        assert len(records) == stretch.count
        assert records[0].startswith(b"id: %d\n" % (last + 1))
        last += stretch.count
        event = stretch.type.replace("\r", " ").replace("\n", " ").encode()
        assert records[-1].startswith(b"id: %d\nevent: %b\n" % (last, event))
        assert stretch.seq == last
        told.append(stretch.record)
    return b"".join(told)


async def test_a_stream_gets_the_records_of_archived_events(shelf: Shelf, key: SessionKey) -> None:
    events = events_of(key)
    await shelf.put(events)
    records = [entry.record for entry in entries_of(events)]
    newest = events[-1].seq
    assert await streamed(shelf.archive, key, 0, newest) == b"".join(records)
    assert await streamed(shelf.archive, key, 0, newest + 9) == b"".join(records)
    assert await streamed(shelf.archive, key, 3, 7) == b"".join(records[3:7])
    assert await streamed(shelf.archive, key, newest, newest) == b""
    assert await streamed(shelf.archive, key, newest, newest + 1) == b""


async def test_a_stream_is_told_names_and_data_as_they_were_on_the_log(
    shelf: Shelf, key: SessionKey
) -> None:
    odd = "a/b 'ü' \x7f\U0001f388%:{}"
    pretty = b'{\r\n "a": "x\\n\\u0041/\\/",\n\t"b": 1.0e2 }'
    plain = events_of(key)[0]
    events = [
        replace(plain, event_id=odd, thread_id=odd, trace_id=odd, turn_id=odd, user_id=odd),
        replace(plain, seq=2, type=odd, model=odd),
        replace(plain, seq=3, data=msgspec.Raw(pretty)),
        replace(plain, seq=4, turn_id=None, thread_id=None, model=None, trace_id=""),
    ]
    await shelf.put(events)
    records = b"".join(entry.record for entry in entries_of(events))
    assert await streamed(shelf.archive, key, 0, 4) == records


async def test_names_that_json_escapes_are_told_too(shelf: Shelf, key: SessionKey) -> None:
    odd = "".join(map(chr, range(1, 0x100))) + "\u2028\u2029a\\u001F"
    plain = events_of(key)[0]
    events = [
        replace(plain, event_id=odd, thread_id=odd, trace_id=odd, turn_id=odd, user_id=odd),
        *(replace(plain, seq=seq) for seq in (2, 3)),
        replace(plain, seq=4, type=odd, model=odd),
        replace(plain, seq=5),
    ]
    await shelf.put(events)
    read = History(shelf.archive, MemoryEventLog(), Live(), MemoryReadModel())
    told = [some.record async for some in read.stretches(key, 0, 5)]
    assert b"".join(told) == b"".join(entry.record for entry in entries_of(events))


async def test_a_stream_is_told_nothing_beyond_a_gap(shelf: Shelf, key: SessionKey) -> None:
    events = events_of(key)
    records = [entry.record for entry in entries_of(events)]
    await shelf.put([*events[:3], *events[4:8], *events[9:]])
    assert await streamed(shelf.archive, key, 0, 10) == b"".join(records[:3])
    assert await streamed(shelf.archive, key, 3, 10) == b""
    assert await streamed(shelf.archive, key, 4, 10) == b"".join(records[4:8])
    await shelf.put([events[8], *events[2:5]])
    assert await streamed(shelf.archive, key, 0, 10) == b"".join(records[:10])


async def test_a_long_session_is_streamed_from_rows_of_many_inserts(
    shelf: Shelf, key: SessionKey
) -> None:
    plain = events_of(key)[0]
    events = [replace(plain, seq=seq, at=_month(seq)) for seq in range(1, 9_001)]
    for share in range(4):  # each insert has rows of both months, and none is in order
        await shelf.put(events[share::4][::-1])
    await shelf.put(events[4_000:5_000])
    records = b"".join(entry.record for entry in entries_of(events))
    assert await streamed(shelf.archive, key, 0, 9_000) == records


def _month(seq: int) -> str:
    """The first half of a long session lies in one partition, the other in the next."""
    return f"2026-1{0 if seq <= 4_500 else 1}-03T08:00:00.{seq:06d}Z"


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
    with pytest.raises(Transient) as caught:
        await anext(away.stretches(key, 0, 10))
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
