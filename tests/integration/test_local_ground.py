"""The broker and the database that this machine starts itself."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from infra.kafka.topics import create_topics, find_drift
from infra.local.processes import read_pid
from shared.bus.topics import INPUTS, TOPICS
from tests.stack import fresh_database, running_parts

pytestmark = pytest.mark.integration
# The client carries no types.
_Producer: Any = AIOKafkaProducer
_Consumer: Any = AIOKafkaConsumer


async def test_every_topic_is_there_as_the_list_says(kafka_bootstrap: str) -> None:
    assert await find_drift(kafka_bootstrap) == []


async def test_creating_the_topics_again_changes_nothing(kafka_bootstrap: str) -> None:
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
    consumer = _Consumer(
        bootstrap_servers=kafka_bootstrap,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        place = TopicPartition(INPUTS.name, sent.partition)
        consumer.assign([place])
        consumer.seek(place, sent.offset)
        record = await consumer.getone()
    finally:
        await consumer.stop()
    assert (record.key, record.value) == (b"ses_1", b"value")


@pytest.mark.parametrize("compression", ["zstd", "snappy"])
async def test_compressed_records_are_taken_where_tmp_allows_no_programs(compression: str) -> None:
    async with running_parts("kafka") as settings:
        bootstrap = f"127.0.0.1:{settings.ports['kafka']}"
        await create_topics(bootstrap)
        producer = _Producer(
            bootstrap_servers=bootstrap, acks="all", compression_type=compression, linger_ms=50
        )
        await producer.start()
        try:
            await asyncio.gather(
                *(producer.send_and_wait(INPUTS.name, b"a" * 2000) for _ in range(3))
            )
        finally:
            await producer.stop()
        programs = _mapped(read_pid(settings.folders.pid_file("kafka")), compression)
    unpacked = {path for path in programs if ".jar" not in path}
    assert unpacked
    assert all(path.startswith(str(settings.folders.data("kafka"))) for path in unpacked)


async def test_each_database_has_tables_of_its_own(postgres_server: str, postgres_url: str) -> None:
    async with fresh_database(postgres_server) as other:
        assert other != postgres_url
        for url in (other, postgres_url):
            connection = await asyncpg.connect(url.replace("+asyncpg", ""))
            await connection.execute("CREATE TABLE t (id int)")
            assert await connection.fetchval("SELECT count(*) FROM t") == 0
            await connection.close()


def _mapped(pid: int | None, word: str) -> set[str]:
    """The files with `word` in their name that the process has in its memory."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {line.split(maxsplit=5)[5] for line in lines if word in line}
