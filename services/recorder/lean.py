"""aiokafka's consumer, whose records are few objects from the start.

Of every record aiokafka makes a dataclass around two dozen objects, most of them of headers that are asked for when
a row is refused. Here its compiled reader's record becomes a KeptRecord at once. aiokafka has no public way to say
so: the inner names that are used stand on this page; tests/contract/test_recorder_log.py notices when one moves.
"""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords

from services.recorder.rows import KeptRecord, pack
from shared.bus.parts import is_part


class LeanConsumer(AIOKafkaConsumer):
    """Gives KeptRecords; a part of a big event comes as aiokafka's own record."""

    async def start(self) -> None:
        """Join the group; nothing is fetched before something is subscribed to."""
        begin: Any = super().start
        await begin()
        fetcher: Any = self._fetcher
        fetch = fetcher._proc_fetch_request

        async def lean(assignment: Any, node: int, request: Any) -> bool:
            """aiokafka's handling of one answer, and then of its results, before anybody saw them."""
            woken: bool = await fetch(assignment, node, request)
            for result in fetcher._records.values():
                if type(result) is FetchResult:
                    records = result._partition_records
                    if type(records) is PartitionRecords:
                        records.__class__ = _LeanRecords
            return woken

        fetcher._proc_fetch_request = lean


class _LeanRecords(PartitionRecords):
    """The records of one partition in an answer."""

    def _consumer_record(self, place: TopicPartition, record: Any) -> Any:
        headers = record.headers
        if is_part(headers):
            make: Any = super()._consumer_record
            return make(place, record)
        topic, partition = place
        return KeptRecord(
            topic,
            partition,
            record.offset,
            record.timestamp,
            record.key,
            record.value,
            pack(headers),
        )
