"""The broker and the database that this machine starts itself."""

from dataclasses import replace
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from infra.kafka.topics import create_topics, find_drift
from shared.bus.topics import INPUTS, TOPICS
from tests.stack import fresh_database

pytestmark = pytest.mark.integration
# The client carries no types.
_Producer: Any = AIOKafkaProducer
_Consumer: Any = AIOKafkaConsumer


async def test_every_topic_is_there_as_the_list_says(kafka_bootstrap: str) -> None:
    assert await find_drift(kafka_bootstrap) == []


async def test_creating_again_changes_nothing(kafka_bootstrap: str) -> None:
    assert await create_topics(kafka_bootstrap) == []


async def test_drift_names_topic_and_setting(kafka_bootstrap: str) -> None:
    wanted = [replace(INPUTS, retention_ms=1000, partitions=99), *TOPICS[1:]]
    drift = await find_drift(kafka_bootstrap, wanted)
    assert drift == [
        f"{INPUTS.name}: partitions is {INPUTS.partitions}, the list says 99",
        f"{INPUTS.name}: retention.ms is {INPUTS.retention_ms}, the list says 1000",
    ]


async def test_a_record_comes_back(kafka_bootstrap: str) -> None:
    producer = _Producer(bootstrap_servers=kafka_bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        sent = await producer.send_and_wait(INPUTS.name, b"value", key=b"ses_1")
    finally:
        await producer.stop()
    consumer = _Consumer(bootstrap_servers=kafka_bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        place = TopicPartition(INPUTS.name, sent.partition)
        consumer.assign([place])
        consumer.seek(place, sent.offset)
        record = await consumer.getone()
    finally:
        await consumer.stop()
    assert (record.key, record.value) == (b"ses_1", b"value")


async def test_databases_are_apart(postgres_server: str, postgres_url: str) -> None:
    async with fresh_database(postgres_server) as other:
        assert other != postgres_url
        for url in (other, postgres_url):
            connection = await asyncpg.connect(url.replace("+asyncpg", ""))
            await connection.execute("CREATE TABLE t (id int)")
            assert await connection.fetchval("SELECT count(*) FROM t") == 0
            await connection.close()
