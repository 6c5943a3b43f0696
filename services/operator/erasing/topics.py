"""How long each topic keeps its records, asked of the broker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from services.operator.erasing.certificate import Topic
from shared.bus.topics import TOPICS

TIMEOUT_MS = 30_000
# aiokafka's admin client has no types.
_open: Any = AIOKafkaAdminClient
_resource: Any = ConfigResource


async def retentions(bootstrap: str, options: Mapping[str, Any]) -> list[Topic]:
    """Every topic of ours. Raises KafkaError."""
    admin = _open(bootstrap_servers=bootstrap, request_timeout_ms=TIMEOUT_MS, **options)
    try:
        await admin.start()
        asked = [_resource(ConfigResourceType.TOPIC, topic.name) for topic in TOPICS]
        answers = await admin.describe_configs(asked)
    finally:
        await admin.close()
    found: dict[str, dict[str, str]] = {
        name: {entry[0]: entry[1] for entry in entries}
        for answer in answers
        for _, _, _, name, entries in answer.resources
    }
    return [
        Topic(
            topic.name,
            int(found[topic.name]["retention.ms"]),
            int(found[topic.name]["segment.ms"]),
        )
        for topic in TOPICS
    ]
