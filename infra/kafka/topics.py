"""Creates the topics of the closed list, and checks that they are as the list says.

`python -m infra.kafka.topics [--bootstrap HOST:PORT] [--check]`: creates what is missing, or only
says what differs (exit code 1 when anything does). Nothing that exists is ever changed here: a
new partition count would send a session's records to another partition, out of order.
"""

import argparse
import asyncio
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from shared.bus.topics import TOPICS, Topic

# The client's classes carry no types.
_NewTopic: Any = NewTopic
_ConfigResource: Any = ConfigResource
_TIMEOUT_MS = 15_000
_MOST_COPIES = 3


class TopicError(RuntimeError):
    """The broker refused a topic; the message names it and carries the broker's reason."""


async def create_topics(
    bootstrap: str,
    topics: Iterable[Topic] = TOPICS,
    *,
    replication: int | None = None,
    client: Mapping[str, Any] | None = None,
) -> list[str]:
    """Create what is missing; returns the names created. Running it again is harmless.

    `replication` is the number of copies, by default 3 or as many as there are brokers. `client`
    holds further arguments of the admin client (SASL, TLS). On return every topic is visible in
    the broker's metadata. Raises TopicError or aiokafka's KafkaError.
    """
    wanted = list(topics)
    async with _Admin(bootstrap, client) as admin:
        there = set(await admin.list_topics())
        missing = [topic for topic in wanted if topic.name not in there]
        if missing:
            copies = replication or await _copies(admin)
            answer = await admin.create_topics([_new(topic, copies) for topic in missing])
            _raise_refusals(answer.topic_errors)
        await _until_visible(admin, {topic.name for topic in wanted})
    return [topic.name for topic in missing]


async def find_drift(
    bootstrap: str, topics: Iterable[Topic] = TOPICS, *, client: Mapping[str, Any] | None = None
) -> list[str]:
    """One sentence for each difference between the broker and the list; empty when there is none."""
    wanted = {topic.name: topic for topic in topics}
    async with _Admin(bootstrap, client) as admin:
        there = set(await admin.list_topics())
        found = [f"{name} does not exist" for name in wanted if name not in there]
        present = [name for name in wanted if name in there]
        if not present:
            return found
        partitions = {
            entry["topic"]: len(entry["partitions"])
            for entry in await admin.describe_topics(present)
        }
        configs = await _configs(admin, present)
    for name in present:
        expected = {"partitions": str(wanted[name].partitions), **config_of(wanted[name])}
        actual = {"partitions": str(partitions[name]), **configs[name]}
        found += [
            f"{name}: {key} is {actual.get(key)}, the list says {value}"
            for key, value in expected.items()
            if actual.get(key) != value
        ]
    return found


def config_of(topic: Topic) -> dict[str, str]:
    """A topic's settings in the broker's words."""
    return {
        "retention.ms": str(topic.retention_ms),
        "cleanup.policy": topic.cleanup,
        "max.message.bytes": str(topic.max_message_bytes),
        "message.timestamp.type": topic.timestamps,
    }


class _Admin:
    """An admin client as a context manager; always closed, started or not."""

    def __init__(self, bootstrap: str, client: Mapping[str, Any] | None) -> None:
        self._client: Any = AIOKafkaAdminClient(
            bootstrap_servers=bootstrap, request_timeout_ms=_TIMEOUT_MS, **(client or {})
        )

    async def __aenter__(self) -> Any:
        try:
            await self._client.start()
        except BaseException:
            await self._client.close()
            raise
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()


async def _copies(admin: Any) -> int:
    return min(_MOST_COPIES, len((await admin.describe_cluster())["brokers"]))


def _new(topic: Topic, copies: int) -> Any:
    return _NewTopic(topic.name, topic.partitions, copies, topic_configs=config_of(topic))


def _raise_refusals(errors: Iterable[tuple[Any, ...]]) -> None:
    for name, code, *reason in errors:
        if code and for_code(code) is not TopicAlreadyExistsError:
            raise TopicError(f"{name}: {for_code(code).__name__} {reason[0] if reason else ''}")


async def _until_visible(admin: Any, names: set[str]) -> None:
    async with asyncio.timeout(_TIMEOUT_MS / 1000):
        while True:
            if names <= set(await admin.list_topics()):
                return
            await asyncio.sleep(0.05)


async def _configs(admin: Any, names: list[str]) -> dict[str, dict[str, str]]:
    resources = [_ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    answers = await admin.describe_configs(resources)
    return {
        name: {entry[0]: entry[1] for entry in entries}
        for answer in answers
        for _, _, _, name, entries in answer.resources
    }


async def _run(bootstrap: str, check: bool) -> int:
    if not check:
        created = await create_topics(bootstrap)
        sys.stdout.write(f"created: {', '.join(created) or 'nothing, all exist'}\n")
    drift = await find_drift(bootstrap)
    sys.stdout.write("".join(f"{line}\n" for line in drift) or "topics are as the list says\n")
    return 1 if drift else 0


def main() -> int:
    """Make the topics, or with --check compare them. Exit code 0, 1 on drift, 2 when it could not be done."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.kafka.topics", description="Create the topics, or check them."
    )
    parser.add_argument("--bootstrap", default="127.0.0.1:9092", help="HOST:PORT[,HOST:PORT]")
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 on drift")
    arguments = parser.parse_args()
    try:
        return asyncio.run(_run(arguments.bootstrap, arguments.check))
    except (KafkaError, TopicError, TimeoutError) as error:
        sys.stderr.write(f"{arguments.bootstrap}: {error!r}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
