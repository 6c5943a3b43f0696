"""Inputs on Kafka: an idempotent producer with acks=all, and never more than five seconds of waiting."""

from __future__ import annotations

import asyncio

from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from services.gateway.adapters.kafka_clients import CLIENT_ID
from shared import logs
from shared.bus.envelope import Envelope
from shared.bus.topics import INPUTS
from shared.errors import Rejected, Transient
from shared.patience import Patience
from shared.retry import patiently
from shared.settings import KafkaSettings
from shared.stream import Publishing

# A little under the promised 5 s, so that the answer itself arrives in time.
PUBLISH_SECONDS = 4.5
FIRST_WAIT, LONGEST_WAIT = 0.2, 2.0
# Idle producers batch nothing; busy ones fill this while the request before is on its way.
MAX_BATCH_BYTES = 256 * 1024
_log = logs.get("gateway.kafka")


class KafkaInputPublisher:
    """One producer. It connects in the background, so that a gateway starts without its broker; a
    producer that broke beyond repair (its sequence was lost with an expired batch) is replaced.
    """

    def __init__(
        self, settings: KafkaSettings, *, publish_seconds: float = PUBLISH_SECONDS
    ) -> None:
        self._settings = settings
        self._publish_seconds = publish_seconds
        self._patience = Patience(publish_seconds)
        self._producer: Publishing | None = None
        self._ready = asyncio.Event()
        self._connecting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect."""
        self._connecting = asyncio.create_task(self._connect(), name="inputs-connect")

    async def stop(self, timeout: float) -> None:
        """Send what is queued, for `timeout` seconds at most, and close."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        producer, self._producer = self._producer, None
        self._ready.clear()
        if producer is not None:
            await _close(producer, timeout)

    async def publish(self, envelope: Envelope, value: bytes) -> None:
        """See InputPublisher.publish. Raises Rejected (`too_large`) too; nothing landed then."""
        try:
            with self._patience():
                producer = self._producer or await self._connected()
                await producer.send_and_wait(
                    INPUTS.name,
                    value=value,
                    key=envelope.subject.encode(),
                    headers=envelope.headers(),
                )
        except MessageSizeTooLargeError as error:
            raise Rejected(
                "too_large", "the input is too large for the log once encoded", field="content"
            ) from error
        except TimeoutError as error:
            raise _unavailable("did not acknowledge in time") from error
        except KafkaError as error:
            self._replace(error)
            raise _unavailable(f"refused the record ({type(error).__name__})") from error

    async def check(self) -> None:
        """See InputPublisher.check: asks the broker, for `publish_seconds` at most."""
        if self._producer is None:
            raise _unavailable("is not connected")
        try:
            async with asyncio.timeout(self._publish_seconds):
                await self._producer.check()
        except (ConnectionError, KafkaError, TimeoutError) as error:
            raise _unavailable("does not answer") from error

    async def _connected(self) -> Publishing:
        await self._ready.wait()
        if self._producer is None:
            raise _unavailable("is not connected")
        return self._producer

    async def _connect(self) -> None:
        self._producer = await patiently(
            self._started,
            on=(KafkaError, OSError),
            first=FIRST_WAIT,
            longest=LONGEST_WAIT,
            say=_not_connected,
        )
        self._ready.set()

    async def _started(self) -> Publishing:
        producer = Publishing(
            self._settings,
            CLIENT_ID,
            max_batch_size=MAX_BATCH_BYTES,
            max_request_size=INPUTS.max_message_bytes,
            request_timeout_ms=10_000,
        )
        await producer.start()
        return producer

    def _replace(self, error: KafkaError) -> None:
        """Give up this producer and connect a new one; several failures at once replace it once."""
        broken, self._producer = self._producer, None
        if broken is None:
            return
        _log.error("producer_replaced", error=type(error).__name__)
        self._ready.clear()
        self._connecting = asyncio.create_task(self._reconnect(broken), name="inputs-connect")

    async def _reconnect(self, broken: Publishing) -> None:
        await _close(broken, 1.0)
        await self._connect()


def _not_connected(failures: int, error: Exception) -> None:
    _log.warning("kafka_away", failures=failures, error=type(error).__name__)


async def _close(producer: Publishing, timeout: float) -> None:
    try:
        async with asyncio.timeout(timeout):
            await producer.stop()
    except (TimeoutError, KafkaError) as error:
        _log.warning("kafka_client_not_stopped", error=type(error).__name__)


def _unavailable(what: str) -> Transient:
    return Transient(
        "kafka_unavailable", f"the log {what}: try again with the same id or key", retry_after=1
    )
