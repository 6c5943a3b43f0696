"""The recorder's Kafka clients, not started yet."""

from __future__ import annotations

from typing import Any, cast

from services.recorder.lean import LeanConsumer
from services.recorder.ports import EventConsumer
from shared.bus.topics import DEAD, EVENTS
from shared.settings import KafkaSettings
from shared.stream import Publishing

TOPIC = EVENTS.name
GROUP = "turnstile.recorder"
CLIENT_ID = "recorder"
# Prefetched data: per partition and in all. The next batch is read while one is inserted. An answer is copied three
# times on its way to records: buffers that small are used again, larger ones are new pages each time.
PARTITION_FETCH_BYTES = 1024 * 1024
FETCH_BYTES = 4 * 1024 * 1024
# The broker gathers for so long before it answers: the archive takes batches, one a second.
GATHER_MS, GATHER_BYTES = 250, 1024 * 1024


def consumer(settings: KafkaSettings, group: str = GROUP) -> EventConsumer:
    """A consumer that commits nothing by itself and begins at the log's beginning."""
    make: Any = LeanConsumer
    made = make(
        **settings.member(CLIENT_ID, group),
        max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
        fetch_max_bytes=FETCH_BYTES,
        fetch_max_wait_ms=GATHER_MS,
        fetch_min_bytes=GATHER_BYTES,
        # A rebalance waits for the batch that is being inserted.
        rebalance_timeout_ms=30_000,
        # The archive keeps what the log has; the checksum was the broker's to verify.
        check_crcs=False,
        metadata_max_age_ms=30_000,
    )
    return cast(EventConsumer, made)


def producer(settings: KafkaSettings) -> Publishing:
    """What dead letters are published through."""
    return Publishing(
        settings,
        CLIENT_ID,
        # What comes while a request is under way goes out in the next one, not one by one.
        max_batch_size=256 * 1024,
        max_request_size=DEAD.max_message_bytes + 64 * 1024,
        request_timeout_ms=10_000,
    )
