"""The agent-worker's Kafka clients and their settings."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from services.agent_worker.adapters.inputs import GROUP
from shared.bus import topics
from shared.settings import KafkaSettings


def producer_of(kafka: KafkaSettings, service: str) -> AIOKafkaProducer:
    """The producer, not started: acks=all, idempotent."""
    return AIOKafkaProducer(
        **kafka.client(service),
        acks="all",
        enable_idempotence=True,
        max_request_size=topics.MAX_MESSAGE_BYTES,
        compression_type="lz4",
        linger_ms=0,
        # What many sessions say while a request is under way goes out in the next one, not one by one.
        max_batch_size=256 * 1024,
    )


def consumer_of(
    kafka: KafkaSettings, service: str, topic: str = topics.INPUTS.name, group: str = GROUP
) -> AIOKafkaConsumer:
    """The consumer of the inputs topic, not started; offsets are committed by hand."""
    return AIOKafkaConsumer(
        topic,
        **kafka.member(service, group),
        # The database may be away for longer than any poll interval; the group's heartbeat is what counts.
        max_poll_interval_ms=24 * 60 * 60 * 1000,
        max_partition_fetch_bytes=topics.MAX_MESSAGE_BYTES,
        fetch_max_wait_ms=500,
    )
