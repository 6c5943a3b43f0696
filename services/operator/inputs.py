"""Publishes inputs on the log, as every other service does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer

from shared.bus.envelope import Envelope
from shared.bus.topics import INPUTS, MAX_MESSAGE_BYTES

REQUEST_TIMEOUT_MS = 30_000
Ask = Callable[[tuple[Envelope, bytes]], Awaitable[None]]
# aiokafka's producer has no types.
_open: Any = AIOKafkaProducer


@asynccontextmanager
async def asking(bootstrap: str, options: Mapping[str, Any]) -> AsyncIterator[Ask]:
    """A function that returns when all replicas have the input. Raises KafkaError."""
    producer = _open(
        bootstrap_servers=bootstrap,
        acks="all",
        enable_idempotence=True,
        max_request_size=MAX_MESSAGE_BYTES,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        **options,
    )
    try:
        await producer.start()

        async def ask(record: tuple[Envelope, bytes]) -> None:
            envelope, value = record
            key, headers = envelope.subject.encode(), envelope.headers()
            await producer.send_and_wait(INPUTS.name, value, key, headers=headers)

        yield ask
    finally:
        await producer.stop()
