"""Readiness checks of log and database; each raises what its client raises."""

from __future__ import annotations

from aiokafka import AIOKafkaProducer
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.bus import topics
from shared.health import Check


def kafka_answers(producer: AIOKafkaProducer) -> Check:
    """A check of the log."""

    async def check() -> None:
        await producer.partitions_for(topics.EVENTS.name)

    return check


def database_answers(engine: AsyncEngine) -> Check:
    """A check of the database and its tables."""

    async def check() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1 FROM worker_heads LIMIT 1"))

    return check
