"""One suite for what the gateway's projector reads: in memory and on Kafka."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from typing import Protocol

import pytest
from aiokafka import AIOKafkaProducer

from services.gateway.adapters import kafka_consumers
from services.gateway.adapters.kafka_consumers import KafkaRecordConsumer
from services.gateway.ports import Record, RecordConsumer
from shared.bus.topics import EVENTS, INPUTS
from shared.clock import utcnow
from shared.moment import rfc3339
from shared.settings import KafkaSettings
from tests.fakes.gateway import MemoryRecordConsumer

pytestmark = pytest.mark.contract
HEADERS = [("ce_id", b"e1")]
NINE_HOURS_MS = 9 * 3600 * 1000
_sessions = itertools.count(1)


class Bus(Protocol):
    """The two topics, and the feed of one process."""

    @property
    def feed(self) -> RecordConsumer: ...
    async def put(self, topic: str, key: bytes, *values: bytes, at_ms: int | None = None) -> None:
        """Publish by a clock that says `at_ms`."""
        ...


class MemoryBus:
    def __init__(self) -> None:
        self.feed = MemoryRecordConsumer()

    async def put(self, topic: str, key: bytes, *values: bytes, at_ms: int | None = None) -> None:
        for value in values:
            offset = len(self.feed.batches)
            came = rfc3339(utcnow()) if topic == INPUTS.name else ""
            self.feed.batches.append([Record(topic, 0, offset, key, value, HEADERS, came)])


class KafkaBus:
    def __init__(self, bootstrap: str) -> None:
        self.feed = KafkaRecordConsumer(KafkaSettings(kafka_bootstrap=bootstrap))
        self._bootstrap = bootstrap

    async def put(self, topic: str, key: bytes, *values: bytes, at_ms: int | None = None) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks="all") as producer:
            for value in values:
                await producer.send_and_wait(
                    topic, value, key=key, headers=HEADERS, timestamp_ms=at_ms
                )


@pytest.fixture
def key() -> bytes:
    """A session nobody else speaks of."""
    return b"ses_feed_%d" % next(_sessions)


@pytest.fixture(params=["memory", "kafka"])
async def bus(
    request: pytest.FixtureRequest, kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bus]:
    if request.param == "memory":
        yield MemoryBus()
        return
    monkeypatch.setattr(kafka_consumers, "GROUP", f"feed-{uuid.uuid4().hex[:8]}")
    real = KafkaBus(kafka_bootstrap)
    yield real
    await real.feed.stop()


async def read(feed: RecordConsumer, key: bytes, count: int) -> list[Record]:
    """`count` records of one session; other tests' are passed over."""
    found: list[Record] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            found += [record for record in await feed.batch(0.2) if record.key == key]
    return found


def values(records: Sequence[Record]) -> list[bytes]:
    return [record.value for record in records]


async def test_inputs_and_events_are_fed_in_order_by_topic(bus: Bus, key: bytes) -> None:
    await bus.put(INPUTS.name, key, b"i1", b"i2")
    await bus.put(EVENTS.name, key, b"e1", b"e2", b"e3")
    records = await read(bus.feed, key, 5)
    by_topic = {
        name: values([r for r in records if r.topic == name]) for name in (INPUTS.name, EVENTS.name)
    }
    assert by_topic == {INPUTS.name: [b"i1", b"i2"], EVENTS.name: [b"e1", b"e2", b"e3"]}
    assert all(list(record.headers) == HEADERS for record in records)


async def test_an_input_came_when_the_log_had_it_whatever_its_producer_says(
    bus: Bus, key: bytes
) -> None:
    began = rfc3339(utcnow() - timedelta(seconds=1))
    await bus.put(INPUTS.name, key, b"i1", at_ms=int(utcnow().timestamp() * 1000) + NINE_HOURS_MS)
    (record,) = await read(bus.feed, key, 1)
    assert began <= record.received_at <= rfc3339(utcnow() + timedelta(seconds=1))


async def test_nothing_is_fed_when_there_is_nothing_more(bus: Bus, key: bytes) -> None:
    await bus.put(EVENTS.name, key, b"e1")
    await read(bus.feed, key, 1)
    async with asyncio.timeout(10):
        while await bus.feed.batch(0.05):
            pass


async def test_what_was_not_committed_is_fed_again_after_a_rewind(bus: Bus, key: bytes) -> None:
    await bus.put(EVENTS.name, key, b"e1")
    await read(bus.feed, key, 1)
    await bus.feed.commit()
    await bus.put(EVENTS.name, key, b"e2", b"e3")
    first = await read(bus.feed, key, 2)
    await bus.feed.rewind()
    assert values(await read(bus.feed, key, 2)) == values(first) == [b"e2", b"e3"]


async def test_the_next_process_goes_on_where_was_committed(
    kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch, key: bytes
) -> None:
    monkeypatch.setattr(kafka_consumers, "GROUP", f"feed-{uuid.uuid4().hex[:8]}")
    bus = KafkaBus(kafka_bootstrap)
    await bus.put(EVENTS.name, key, b"e1")
    await read(bus.feed, key, 1)
    await bus.feed.commit()
    await bus.put(EVENTS.name, key, b"e2")
    await read(bus.feed, key, 1)
    await bus.feed.stop()
    second = KafkaRecordConsumer(KafkaSettings(kafka_bootstrap=kafka_bootstrap))
    assert values(await read(second, key, 1)) == [b"e2"]
    await second.stop()


async def test_a_rewind_before_anything_is_harmless(bus: Bus, key: bytes) -> None:
    await bus.feed.rewind()
    await bus.put(INPUTS.name, key, b"i1")
    assert values(await read(bus.feed, key, 1)) == [b"i1"]


@pytest.fixture
def gathering(kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], KafkaBus]:
    """A bus whose feed is a group of its own and lets so many seconds pass after each batch."""

    def made(seconds: float) -> KafkaBus:
        monkeypatch.setattr(kafka_consumers, "GROUP", f"feed-{uuid.uuid4().hex[:8]}")
        monkeypatch.setattr(kafka_consumers, "TABLES_EACH", seconds)
        monkeypatch.setattr(kafka_consumers, "TABLES_MOST", seconds)
        return KafkaBus(kafka_bootstrap)

    return made


async def test_what_comes_while_it_gathers_is_fed_at_once_and_in_order(
    gathering: Callable[[float], KafkaBus], key: bytes
) -> None:
    bus = gathering(3.0)
    await bus.put(INPUTS.name, key, b"i1")
    assert values(await read(bus.feed, key, 1)) == [b"i1"]
    await bus.put(EVENTS.name, key, b"e1")
    await bus.put(EVENTS.name, key, b"e2")
    # The client may have fetched the first of them before the others were there: two batches at most.
    batches = [await bus.feed.batch(5.0)]
    if len(batches[0]) < 2:
        batches.append(await bus.feed.batch(5.0))
    assert values([record for batch in batches for record in batch]) == [b"e1", b"e2"]
    await bus.feed.stop()


async def test_what_gathers_is_fed_by_the_next_process(
    gathering: Callable[[float], KafkaBus], kafka_bootstrap: str, key: bytes
) -> None:
    bus = gathering(60.0)
    await bus.put(INPUTS.name, key, b"i1")
    await read(bus.feed, key, 1)
    await bus.feed.commit()
    await bus.put(INPUTS.name, key, b"i2")
    waiting = asyncio.ensure_future(bus.feed.batch(0.2))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(waiting, 0.5)
    await bus.feed.stop()
    second = KafkaRecordConsumer(KafkaSettings(kafka_bootstrap=kafka_bootstrap))
    assert values(await read(second, key, 1)) == [b"i2"]
    await second.stop()
