"""How FastStream is told of TLS and SASL, what becomes of a record that was fetched before a rebalance, and how
often a producer looks for a log that is away."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.partitioner import DefaultPartitioner
from faststream.kafka.security import parse_security

from shared import stream
from shared.settings import KafkaSettings
from shared.stream import Found, Record, partition_of

pytestmark = pytest.mark.unit
HERE, THERE = TopicPartition("t", 0), TopicPartition("t", 1)


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_tls_and_sasl_are_those_of_the_settings(protocol: str, mechanism: str) -> None:
    settings = KafkaSettings.model_validate(
        {
            "kafka_bootstrap": "one:9092,two:9093",
            "kafka_security_protocol": protocol,
            "kafka_sasl_mechanism": mechanism,
            "kafka_sasl_username": "turnstile",
            "kafka_sasl_password": "secret",
        }
    )
    told = dict(parse_security(stream._security(settings)))
    wanted = settings.client("test")
    context = wanted.get("ssl_context")
    assert (told.pop("ssl_context") is not None) == (context is not None)
    assert told == {name: wanted[name] for name in wanted if name.startswith(("sec", "sasl"))}
    broker = stream._broker(settings, "test", consumer_only=True)
    assert broker._connection_kwargs["bootstrap_servers"] == ["one:9092", "two:9093"]


def test_a_mechanism_that_is_not_known_is_named() -> None:
    settings = KafkaSettings(kafka_security_protocol="SASL_SSL", kafka_sasl_mechanism="OAUTHBEARER")
    with pytest.raises(ValueError, match="TURNSTILE_KAFKA_SASL_MECHANISM"):
        stream._security(settings)


def fetched(place: TopicPartition, offset: int) -> Record:
    return ConsumerRecord(*place, offset, 0, 0, b"k", b"v", None, 1, 1, ())


def test_a_batch_has_each_partition_in_order() -> None:
    rest = {THERE: [fetched(THERE, 7)], HERE: [fetched(HERE, 4), fetched(HERE, 5)]}
    assert offsets(stream._joined(fetched(HERE, 3), rest)) == {HERE: [3, 4, 5], THERE: [7]}


def test_a_record_that_is_read_anew_is_there_once() -> None:
    rest = {HERE: [fetched(HERE, 3), fetched(HERE, 4)]}
    assert offsets(stream._joined(fetched(HERE, 3), rest)) == {HERE: [3, 4]}
    assert offsets(stream._joined(fetched(HERE, 9), rest)) == {HERE: [3, 4]}
    assert offsets(stream._joined(fetched(HERE, 3), {})) == {HERE: [3]}


def offsets(found: Found) -> dict[TopicPartition, list[int]]:
    return {place: [record.offset for record in records] for place, records in found.items()}


def test_a_keys_partition_is_that_of_the_java_client() -> None:
    partitions, theirs = list(range(12)), DefaultPartitioner()
    for number in range(200):
        key = f"ses_{number * 7919}".encode()
        assert partition_of(key, partitions, []) == theirs(key, partitions, [])
        assert partition_of(key, partitions[:5], []) == theirs(key, partitions[:5], [])
    assert partition_of(None, partitions, [3]) == 3


async def test_a_producer_pauses_each_time_it_does_not_find_the_log() -> None:
    """It asks as soon as it was told that there is no answer; aiokafka would try the next moment."""
    client = AIOKafkaClient(bootstrap_servers="127.0.0.1:1")
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    stream._pause_between_looks(client, sleep)
    looking = asyncio.create_task(client._md_synchronizer())
    for count in range(1, 4):
        assert not await client.force_metadata_update()
        assert pauses == [stream.LOOK_AGAIN_S] * count
    looking.cancel()
    await client.close()
