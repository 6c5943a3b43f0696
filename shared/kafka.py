"""Kafka clients that have started: waits for Kafka while it is away, saying so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from aiokafka.errors import KafkaError

from shared import logs

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
RETRY_S = 1.0
log = logs.get(__name__)


class Client(Protocol):
    """What consumers and producers have in common."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...


C = TypeVar("C", bound=Client)


async def started(make: Callable[[], C]) -> C:
    """A client that has started. Tries for as long as Kafka is away, saying so; cancel it to give up."""
    failures = 0
    while True:
        client = make()
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await client.start()
        except (KafkaError, OSError, TimeoutError) as error:
            failures += 1
            if failures in (1, 10) or failures % 60 == 0:
                log.warning("kafka does not answer", failures=failures, error=type(error).__name__)
            await stopped(client)
            await asyncio.sleep(RETRY_S)
        except BaseException:
            await stopped(client)
            raise
        else:
            return client


async def stopped(client: Client) -> None:
    """Stop a client, within STOP_TIMEOUT_S, whatever state it is in."""
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await client.stop()
    except (KafkaError, OSError, TimeoutError) as error:
        log.warning("a kafka client did not stop cleanly", error=type(error).__name__)


@asynccontextmanager
async def connected(make: Callable[[], C]) -> AsyncIterator[C]:
    """A started client, stopped at the end."""
    client = await started(make)
    try:
        yield client
    finally:
        await stopped(client)
