"""How does the recorder speak to Kafka? The options of its clients, and a patient start."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from services.agent_worker.recorder.ports import Log, Out
from shared import logs
from shared.bus.topics import DEAD, EVENTS
from shared.settings import KafkaSettings

TOPIC = EVENTS.name
GROUP = "turnstile.recorder"
CLIENT_ID = "turnstile-recorder"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0
RETRY_S = 1.0
# Prefetched data: per partition and in all. The next batch is read while one is inserted.
PARTITION_FETCH_BYTES = 2 * 1024 * 1024
FETCH_BYTES = 16 * 1024 * 1024

log = logs.get("recorder")


class Client(Protocol):
    """What consumers and producers have in common."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...


C = TypeVar("C", bound=Client)


def consumer(settings: KafkaSettings, group: str = GROUP) -> Log:
    """A consumer that commits nothing by itself and begins at the log's beginning."""
    make: Any = AIOKafkaConsumer
    made = make(
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
        fetch_max_bytes=FETCH_BYTES,
        fetch_max_wait_ms=250,
        # A rebalance waits for the batch that is being inserted.
        rebalance_timeout_ms=30_000,
        session_timeout_ms=15_000,
        heartbeat_interval_ms=3_000,
        # The archive keeps what the log has; the checksum was the broker's to verify.
        check_crcs=False,
        metadata_max_age_ms=30_000,
        **_options(settings),
    )
    return cast(Log, made)


def producer(settings: KafkaSettings) -> Out:
    """The producer of dead letters: acknowledged by all, without repeats."""
    make: Any = AIOKafkaProducer
    made = make(
        acks="all",
        enable_idempotence=True,
        max_request_size=DEAD.max_message_bytes + 64 * 1024,
        request_timeout_ms=10_000,
        **_options(settings),
    )
    return cast(Out, made)


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


def _options(settings: KafkaSettings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap,
        "client_id": CLIENT_ID,
        "security_protocol": settings.kafka_security_protocol,
    }
    if "SSL" in settings.kafka_security_protocol:
        options["ssl_context"] = ssl.create_default_context()
    if settings.kafka_security_protocol.startswith("SASL"):
        password = settings.kafka_sasl_password
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism
        options["sasl_plain_username"] = settings.kafka_sasl_username
        options["sasl_plain_password"] = password.get_secret_value() if password else None
    return options
