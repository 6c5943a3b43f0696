"""One suite for the port the gateway publishes through: in memory and on Kafka; and what Kafka holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer

from services.gateway.adapters.kafka_inputs import KafkaInputPublisher
from services.gateway.ports import InputPublisher
from shared.bus import envelope
from shared.bus.envelope import Envelope
from shared.bus.topics import INPUTS
from shared.errors import Transient
from shared.settings import KafkaSettings
from tests.fakes.gateway import MemoryInputPublisher

pytestmark = pytest.mark.contract


def an_envelope(number: int = 1, session: str = "ses_1") -> Envelope:
    return Envelope(
        id=f"in_{number}",
        source="turnstile/gateway",
        type="turn.requested",
        time="2026-11-21T12:00:00.000000Z",
        subject=session,
        traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01",
    )


@pytest.fixture(params=["memory", "kafka"])
async def inputs(
    request: pytest.FixtureRequest, kafka_bootstrap: str
) -> AsyncIterator[InputPublisher]:
    if request.param == "memory":
        yield MemoryInputPublisher()
        return
    kafka = KafkaInputPublisher(KafkaSettings(kafka_bootstrap=kafka_bootstrap))
    kafka.start()
    yield kafka
    await kafka.stop(2)


async def test_what_is_published_returns_when_it_is_safe(inputs: InputPublisher) -> None:
    await inputs.publish(an_envelope(), b"{}")
    await inputs.check()
    await asyncio.gather(*(inputs.publish(an_envelope(n), b"{}") for n in range(50)))


async def test_a_large_input_fits(inputs: InputPublisher) -> None:
    await inputs.publish(an_envelope(), b'"' + b"x" * (6 * 1024 * 1024) + b'"')


async def test_the_record_is_a_cloud_event_in_the_sessions_partition(kafka_bootstrap: str) -> None:
    inputs = KafkaInputPublisher(KafkaSettings(kafka_bootstrap=kafka_bootstrap))
    inputs.start()
    for number in range(3):
        await inputs.publish(an_envelope(number, "ses_unique"), b'{"n":%d}' % number)
    await inputs.stop(2)
    consumer = AIOKafkaConsumer(
        INPUTS.name,
        bootstrap_servers=kafka_bootstrap,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    found = []
    try:
        async with asyncio.timeout(10):
            async for record in consumer:
                if record.key == b"ses_unique":
                    found.append(record)
                if len(found) == 3:
                    break
    finally:
        await consumer.stop()
    assert [record.value for record in found] == [b'{"n":0}', b'{"n":1}', b'{"n":2}']
    assert len({record.partition for record in found}) == 1
    assert envelope.read(found[0].headers) == an_envelope(0, "ses_unique")


async def test_a_log_that_is_not_there_is_transient_within_the_bound() -> None:
    inputs = KafkaInputPublisher(KafkaSettings(kafka_bootstrap="127.0.0.1:1"), publish_seconds=0.3)
    inputs.start()
    began = asyncio.get_running_loop().time()
    with pytest.raises(Transient) as caught:
        await inputs.publish(an_envelope(), b"{}")
    assert caught.value.reason == "kafka_unavailable"
    assert asyncio.get_running_loop().time() - began < 2
    with pytest.raises(Transient):
        await inputs.check()
    await inputs.stop(1)
