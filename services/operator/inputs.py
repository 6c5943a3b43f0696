"""Publishes inputs on the log, as every other service does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from services.operator.kafka_clients import producing
from shared.bus.envelope import Envelope
from shared.bus.topics import INPUTS

Ask = Callable[[tuple[Envelope, bytes]], Awaitable[None]]


@asynccontextmanager
async def asking(bootstrap: str, options: Mapping[str, Any]) -> AsyncIterator[Ask]:
    """A function that returns when all replicas have the input. Raises KafkaError."""
    async with producing(bootstrap, options) as producer:

        async def ask(record: tuple[Envelope, bytes]) -> None:
            envelope, value = record
            key, headers = envelope.subject.encode(), envelope.headers()
            await producer.send_and_wait(INPUTS.name, value, key, headers=headers)

        yield ask
