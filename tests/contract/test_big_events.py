"""An event larger than a record may be: said by the worker, read whole by everyone who reads the log."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from msgspec.structs import replace

from services.agent_worker.adapters.clients import producer_of
from services.agent_worker.adapters.kafka import KafkaPublisher
from services.agent_worker.adapters.previews import Previews
from services.gateway.adapters import kafka_consumers
from services.gateway.adapters.kafka_consumers import KafkaRecordConsumer, KafkaTail
from services.gateway.adapters.kafka_log import KafkaEventLog
from services.gateway.ports import Record
from services.operator.audits import log as operators_log
from shared.bus.envelope import Headers
from shared.bus.parts import split
from shared.bus.topics import DEAD, EVENTS, INPUTS, MAX_MESSAGE_BYTES
from shared.clock import utcnow
from shared.dead_letters import DeadLetters, Letter
from shared.session import Event
from shared.settings import KafkaSettings
from tests.builders import BEGINNING, TENANT
from tests.contract.test_publisher import events_of, no_parent

pytestmark = pytest.mark.contract
SIZE = 20_000_000


@pytest.fixture
def session() -> str:
    return f"ses_big_{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def publisher(kafka_bootstrap: str) -> AsyncIterator[KafkaPublisher]:
    producer = producer_of(KafkaSettings(kafka_bootstrap=kafka_bootstrap), "test")
    await producer.start()
    yield KafkaPublisher(producer, Previews(producer, lambda: BEGINNING), lambda: BEGINNING)
    await producer.stop()


@pytest.fixture
async def feed(
    kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[KafkaRecordConsumer]:
    monkeypatch.setattr(kafka_consumers, "GROUP", f"feed-{uuid.uuid4().hex[:8]}")
    feed = KafkaRecordConsumer(KafkaSettings(kafka_bootstrap=kafka_bootstrap))
    yield feed
    await feed.stop()


def big(session: str) -> list[Event]:
    """Three events; the second one's JSON has over 20 MB and compresses badly."""
    one, two, three, *_ = events_of(session)
    text = b"".join(uuid.uuid5(uuid.NAMESPACE_URL, str(n)).hex.encode() for n in range(10_000))
    body = b'{"id":"sevt_big","text":"%b"}' % (text * (SIZE // len(text) + 1))
    return [one, replace(two, type="agent.tool_result", data=msgspec.Raw(body)), three]


def values(events: Sequence[Event]) -> list[bytes]:
    return [msgspec.json.encode(event) for event in events]


async def fed(feed: KafkaRecordConsumer, session: str, count: int) -> list[Record]:
    found: list[Record] = []
    async with asyncio.timeout(90):
        while len(found) < count:
            found += [one for one in await feed.batch(0.2) if one.key == session.encode()]
    return found


async def test_all_who_read_the_log_have_it_whole_and_in_its_place(
    kafka_bootstrap: str, publisher: KafkaPublisher, feed: KafkaRecordConsumer, session: str
) -> None:
    settings = KafkaSettings(kafka_bootstrap=kafka_bootstrap)
    tail = KafkaTail(settings).records()
    await anext(tail)
    events = big(session)
    await publisher.say(events, no_parent)

    heard: list[Record] = []
    async with asyncio.timeout(90):
        while len(heard) < 3:
            heard += [one for one in await anext(tail) if one.key == session.encode()]
    await tail.aclose()  # type: ignore[attr-defined]
    assert [one.value for one in heard] == values(events)

    assert [one.value for one in await fed(feed, session, 3)] == values(events)

    since = utcnow() - timedelta(minutes=5)
    scan = KafkaEventLog(settings).scan((TENANT, session), since, 0)
    async with asyncio.timeout(90):
        assert [entry.value async for entry in scan] == values(events)

    wanted = {(TENANT, session): {2}}
    async with asyncio.timeout(90):
        read = [found async for found in operators_log.events(kafka_bootstrap, {}, wanted)]
    assert read == [((TENANT, session), 2, values(events)[1])]


async def test_a_reader_that_begins_anew_in_the_middle_has_the_first_part_too(
    kafka_bootstrap: str, feed: KafkaRecordConsumer, session: str
) -> None:
    one, two, _ = big(session)
    headers: Headers = [("ce_source", b"/worker/acme"), ("content-type", b"application/json")]
    parts = list(split(values([two])[0], headers, two.seq))
    async with AIOKafkaProducer(
        bootstrap_servers=kafka_bootstrap, acks="all", max_request_size=2**23
    ) as producer:

        async def say(value: bytes, marks: Headers) -> None:
            await producer.send_and_wait(EVENTS.name, value, key=session.encode(), headers=marks)

        await say(values([one])[0], headers)
        await say(*parts[0])
        await say(*parts[1])
        assert [found.value for found in await fed(feed, session, 1)] == values([one])
        while await feed.batch(0.5):
            pass
        await feed.commit()
        await feed.stop()
        await say(*parts[2])
    again = KafkaRecordConsumer(KafkaSettings(kafka_bootstrap=kafka_bootstrap))
    assert [found.value for found in await fed(again, session, 1)] == values([two])
    await again.commit()
    await again.stop()


async def test_an_input_that_its_marks_make_too_large_is_buried_without_its_value(
    kafka_bootstrap: str, session: str
) -> None:
    settings = KafkaSettings(kafka_bootstrap=kafka_bootstrap)
    producer = producer_of(settings, "test")
    await producer.start()
    # As large as the inputs topic takes it, and of no use.
    value = b"".join(uuid.uuid4().hex.encode() for _ in range(MAX_MESSAGE_BYTES // 32 - 4))
    headers: Headers = [("dead_reason", b"invalid_json"), ("dead_detail", b"x" * 2000)]
    try:
        letter = Letter(session.encode(), value, headers, "invalid_json", INPUTS.name, "place")
        await asyncio.wait_for(DeadLetters(producer, utcnow).put([letter]), 60)
    finally:
        await producer.stop()
    consumer = AIOKafkaConsumer(
        DEAD.name,
        bootstrap_servers=kafka_bootstrap,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        async with asyncio.timeout(30):
            found = await anext(one async for one in consumer if one.key == session.encode())
    finally:
        await consumer.stop()
    assert found.value is None
    assert dict(found.headers)["dead_value_bytes"] == str(len(value)).encode()
