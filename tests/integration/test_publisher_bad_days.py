"""The log stands still while many sessions speak: they wait, and all is said once it goes on."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer
from msgspec.structs import replace

from infra.kafka.topics import create_topics
from infra.local.processes import read_pid
from services.agent_worker.adapters.kafka import KafkaPublisher
from services.agent_worker.adapters.previews import Previews
from shared.bus.topics import EVENTS, MAX_MESSAGE_BYTES
from shared.session import Event
from shared.settings import KafkaSettings
from shared.stream import Publishing
from tests.builders import BEGINNING
from tests.contract.test_publisher import events_of, no_parent
from tests.stack import running_parts

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
SESSION, COUNT = "ses_still", 40
# How long the log stands still, and how long the producer's buffer may be full before it says so.
STILL_S, REQUEST_MS = 8.0, 2_000


@pytest.fixture
async def log() -> AsyncIterator[tuple[str, int]]:
    """A broker of the test's own: its address and pid."""
    async with running_parts("kafka") as settings:
        bootstrap = f"127.0.0.1:{settings.ports['kafka']}"
        await create_topics(bootstrap)
        pid = read_pid(settings.folders.pid_file("kafka"))
        assert pid is not None
        yield bootstrap, pid


def large() -> list[Event]:
    """Events of 100 kB, each a batch of its own."""
    first, *_ = events_of(SESSION)
    body = msgspec.Raw(b'{"text":"%b"}' % (b"x" * 100_000))
    return [
        replace(first, seq=seq, event_id=f"{SESSION}:{seq}", data=body)
        for seq in range(1, COUNT + 1)
    ]


async def test_an_event_that_finds_no_room_is_said_once_there_is_room(log: tuple[str, int]) -> None:
    bootstrap, pid = log
    producer = Publishing(
        KafkaSettings(kafka_bootstrap=bootstrap),
        "test",
        max_request_size=MAX_MESSAGE_BYTES,
        request_timeout_ms=REQUEST_MS,
    )
    await producer.start()
    publisher = KafkaPublisher(producer, Previews(producer, lambda: BEGINNING), lambda: BEGINNING)
    broken = asyncio.create_task(publisher.broken())
    events = large()
    try:
        await publisher.say(events[:1], no_parent)
        os.kill(pid, signal.SIGSTOP)
        saying = [asyncio.create_task(publisher.say([event], no_parent)) for event in events[1:]]
        try:
            await asyncio.sleep(STILL_S)
            assert not any(task.done() for task in saying)
        finally:
            os.kill(pid, signal.SIGCONT)
        async with asyncio.timeout(120):
            await asyncio.gather(*saying)
        assert not broken.done()
    finally:
        broken.cancel()
        await producer.stop()
    assert await said(bootstrap) == {event.seq for event in events}


async def said(bootstrap: str) -> set[int]:
    consumer = AIOKafkaConsumer(
        EVENTS.name,
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    found = set[int]()
    await consumer.start()
    try:
        async with asyncio.timeout(60):
            while len(found) < COUNT:
                record = await consumer.getone()
                found.add(msgspec.json.decode(record.value or b"", type=Event).seq)
    finally:
        await consumer.stop()
    return found
