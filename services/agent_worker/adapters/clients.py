"""The agent-worker's Kafka clients and their settings."""

from __future__ import annotations

from services.agent_worker.adapters.inputs import GROUP, MAX_RECORDS
from shared.bus import topics
from shared.settings import KafkaSettings
from shared.stream import Member, Publishing


def producer_of(kafka: KafkaSettings, service: str) -> Publishing:
    """What events, previews and dead letters are published through, not started."""
    return Publishing(
        kafka,
        service,
        max_request_size=topics.MAX_MESSAGE_BYTES,
        compression_type="lz4",
        linger_ms=0,
        # What many sessions say while a request is under way goes out in the next one, not one by one.
        max_batch_size=256 * 1024,
    )


def member_of(
    kafka: KafkaSettings, service: str, topic: str = topics.INPUTS.name, group: str = GROUP
) -> Member:
    """A member of the group that reads the inputs topic, not started."""
    return Member(
        kafka,
        service,
        group,
        topic,
        most=MAX_RECORDS,
        # The database may be away for longer than any poll interval; the group's heartbeat is what counts.
        max_poll_interval_ms=24 * 60 * 60 * 1000,
        max_partition_fetch_bytes=topics.MAX_MESSAGE_BYTES,
        fetch_max_wait_ms=500,
    )
