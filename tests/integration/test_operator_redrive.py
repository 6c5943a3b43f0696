"""Dead letters go back to the inputs topic, once, in order, as they came; on a real broker."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from services.operator.dead.letter import DeadLetter
from services.operator.dead.letters import newest, oldest_open
from services.operator.dead.redrive import drop, redrive
from shared.bus.envelope import Envelope, dead_letter
from shared.bus.topics import DEAD, INPUTS
from shared.clock import utcnow

pytestmark = pytest.mark.integration
_open_producer: Any = AIOKafkaProducer
_open_consumer: Any = AIOKafkaConsumer
HEADERS = Envelope("turn:t", "/test", "turn.requested", "", "x", "00-trace").headers()


@pytest.fixture(scope="module")
async def producer(kafka_bootstrap: str) -> AsyncIterator[Any]:
    producer = _open_producer(bootstrap_servers=kafka_bootstrap, acks="all")
    await producer.start()
    yield producer
    await producer.stop()


async def bury(producer: Any, session: str, count: int, topic: str = INPUTS.name) -> None:
    for number in range(count):
        headers = dead_letter(
            [*HEADERS, ("odd", b"\xff")],
            reason="unknown_tenant",
            detail="not served here",
            attempts=1,
            at="2026-11-21T10:00:00.000000Z",
            source=f"{topic}/0/{number}",
        )
        value = b'{"n": %d}' % number
        await producer.send_and_wait(DEAD.name, value, session.encode(), headers=headers)


async def open_letters(bootstrap: str, session: str, limit: int = 100) -> list[DeadLetter]:
    return await oldest_open(
        bootstrap, {}, limit=limit, scan=10_000, wanted=lambda letter: letter.key == session
    )


async def inputs_of(bootstrap: str, session: str) -> list[Any]:
    """All records of a session on the inputs topic, in order."""
    consumer = _open_consumer(
        bootstrap_servers=bootstrap,
        group_id=None,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        places = [TopicPartition(INPUTS.name, number) for number in range(INPUTS.partitions)]
        consumer.assign(places)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(places)
        found = []
        for place in places:
            while await consumer.position(place) < ends[place]:
                batch = await consumer.getmany(place, timeout_ms=500)
                found += [r for r in batch.get(place, []) if r.key == session.encode()]
        return found
    finally:
        await consumer.stop()


async def test_letters_go_back_as_they_came_in_order_and_once(
    kafka_bootstrap: str, producer: Any
) -> None:
    session = f"ses_{uuid.uuid4().hex}"
    await bury(producer, session, 5)
    first = await open_letters(kafka_bootstrap, session, limit=2)
    await redrive(kafka_bootstrap, {}, first, utcnow())
    rest = await open_letters(kafka_bootstrap, session)
    assert len(rest) == 3
    await redrive(kafka_bootstrap, {}, rest, utcnow())
    assert await open_letters(kafka_bootstrap, session) == []

    records = await inputs_of(kafka_bootstrap, session)
    assert [record.value for record in records] == [b'{"n": %d}' % n for n in range(5)]
    assert list(records[0].headers) == [*HEADERS, ("odd", b"\xff")]


async def test_a_letter_that_dies_again_is_open_again(kafka_bootstrap: str, producer: Any) -> None:
    session = f"ses_{uuid.uuid4().hex}"
    await bury(producer, session, 1)
    await redrive(kafka_bootstrap, {}, await open_letters(kafka_bootstrap, session), utcnow())
    await bury(producer, session, 1)
    assert len(await open_letters(kafka_bootstrap, session)) == 1


async def test_a_dropped_letter_is_read_only_when_asked_for(
    kafka_bootstrap: str, producer: Any
) -> None:
    session = f"ses_{uuid.uuid4().hex}"
    await bury(producer, session, 2)
    (letter, _) = await open_letters(kafka_bootstrap, session)
    await drop(kafka_bootstrap, {}, [letter], utcnow())

    async def listed(*, settled: bool) -> list[str]:
        found = await newest(
            kafka_bootstrap,
            {},
            limit=10,
            scan=10_000,
            wanted=lambda letter: letter.key == session,
            settled=settled,
        )
        return [letter.place for letter in found]

    assert letter.place not in await listed(settled=False)
    assert letter.place in await listed(settled=True)
    assert len(await listed(settled=True)) == 2
