"""One suite for the worker's Publisher: in memory and on Kafka."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer
from msgspec.structs import replace

from services.agent_worker.adapters.clients import producer_of
from services.agent_worker.adapters.kafka import KafkaPublisher
from services.agent_worker.adapters.previews import Previews
from services.agent_worker.ports import Publisher
from shared.bus import topics
from shared.session import Event, SessionState, initial
from shared.session.commands import DeadLetter
from shared.session.inputs import REQUESTS
from shared.settings import KafkaSettings
from tests.builders import BEGINNING, TENANT, TRACEPARENT, Wire, at, bound, confirming, seen, turn
from tests.fakes.publisher import MemoryPublisher
from tests.unit.session.specification import history

pytestmark = pytest.mark.contract
_sessions = itertools.count(1)


@dataclass(frozen=True)
class Record:
    """What a consumer sees."""

    key: bytes | None
    value: bytes
    headers: dict[str, str]


Read = Callable[[str, str, int], Awaitable[list[Record]]]


@dataclass(frozen=True)
class Log:
    """A publisher, and how to read `count` records of a session's key from a topic."""

    publisher: Publisher
    read: Read


@pytest.fixture(scope="module", params=["memory", "kafka"])
async def log(request: pytest.FixtureRequest, kafka_bootstrap: str) -> AsyncIterator[Log]:
    if request.param == "memory":
        memory = MemoryPublisher(lambda: BEGINNING)
        yield Log(memory, lambda topic, key, count: _from_memory(memory, topic, key))
        return
    producer = producer_of(KafkaSettings(kafka_bootstrap=kafka_bootstrap), "test")
    await producer.start()
    previews = Previews(producer, lambda: BEGINNING)
    running = asyncio.create_task(previews.run())
    publisher = KafkaPublisher(producer, previews, lambda: BEGINNING)
    yield Log(publisher, lambda topic, key, n: _from_kafka(kafka_bootstrap, topic, key, n))
    running.cancel()
    await producer.stop()


async def _from_memory(publisher: MemoryPublisher, topic: str, key: str) -> list[Record]:
    return [
        Record(said.key, said.value, {name: value.decode() for name, value in said.headers})
        for said in publisher.records
        if said.topic == topic and said.key == key.encode()
    ]


async def _from_kafka(bootstrap: str, topic: str, key: str, count: int) -> list[Record]:
    """The session's records from all partitions, once there are `count`; TimeoutError when they don't come."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        found = list[Record]()
        async with asyncio.timeout(20):
            while len(found) < count:
                got = await consumer.getone()
                if got.key == key.encode():
                    headers = {name: value.decode() for name, value in got.headers}
                    found.append(Record(got.key, got.value or b"", headers))
        return found
    finally:
        await consumer.stop()


@pytest.fixture
def session() -> str:
    """A session nobody else speaks of."""
    return f"ses_{next(_sessions)}"


def events_of(session: str, extra: int = 0) -> list[Event]:
    wire = Wire()
    many = (wire.message(f"word {n}") for n in range(extra))
    told = history(turn("t1", "où? 🎈"), bound(), seen(wire.prompt(), *many), seen(*wire.reply()))
    return [replace(event, session_id=session) for event in told]


def state_of(session: str) -> SessionState:
    return initial(TENANT, session)


def no_parent(event: Event) -> str:
    return ""


async def test_events_are_said_in_order_with_their_exact_bytes(log: Log, session: str) -> None:
    events = events_of(session, extra=300)
    await log.publisher.say(events, no_parent)
    records = await log.read(topics.EVENTS.name, session, len(events))
    assert [record.value for record in records] == [msgspec.json.encode(event) for event in events]


async def test_the_providers_json_is_not_touched(log: Log, session: str) -> None:
    verbatim = rb'{ "b":1.0e2, "id":"x",  "a":"\u00e9\ud83d\ude00\/" ,"type":"agent.message"}'
    (event, *_) = events_of(session)
    said = replace(event, type="agent.message", data=msgspec.Raw(verbatim))
    await log.publisher.say([said], no_parent)
    (record,) = await log.read(topics.EVENTS.name, session, 1)
    assert record.value.endswith(b'"data":' + verbatim + b"}")


async def test_a_record_says_what_it_is(log: Log, session: str) -> None:
    events = events_of(session)[:2]
    await log.publisher.say(events, lambda event: TRACEPARENT if event.turn_id else "")
    first, second = await log.read(topics.EVENTS.name, session, 2)
    assert first.key == session.encode()
    assert second.headers == {
        "ce_specversion": "1.0",
        "ce_id": events[1].event_id,
        "ce_source": f"/turnstile/agent-worker/{TENANT}",
        "ce_type": "turn.accepted",
        "ce_time": at(),
        "ce_subject": session,
        "content-type": "application/json",
        "traceparent": TRACEPARENT,
    }
    assert "traceparent" not in first.headers


async def test_an_event_said_twice_has_the_same_bytes(log: Log, session: str) -> None:
    events = events_of(session)
    await log.publisher.say(events, no_parent)
    await log.publisher.say(events, no_parent)
    records = await log.read(topics.EVENTS.name, session, 2 * len(events))
    assert records[: len(events)] == records[len(events) :]


async def test_no_events_to_say_publish_nothing(log: Log, session: str) -> None:
    await log.publisher.say([], no_parent)


async def test_an_event_of_four_megabytes_is_said(log: Log, session: str) -> None:
    (event, *_) = events_of(session)
    body = msgspec.json.encode({"type": "agent.message", "text": "é" * 2_000_000})
    await log.publisher.say([replace(event, data=msgspec.Raw(body))], no_parent)
    (record,) = await log.read(topics.EVENTS.name, session, 1)
    assert len(record.value) > 4_000_000


async def test_a_useless_input_is_buried_with_the_reason(log: Log, session: str) -> None:
    filed = confirming("sevt_9")
    filed = replace(filed, traceparent=TRACEPARENT)
    why = DeadLetter(
        input_id=filed.input_id,
        reason="unknown_action",
        detail="waits for nothing 🎈",
        attempts=3,
    )
    await log.publisher.bury((TENANT, session), filed, why)
    (letter,) = await log.read(topics.DEAD.name, session, 1)
    assert msgspec.json.decode(letter.value, type=REQUESTS["tool.confirmed"]) == filed.request
    expected = {
        "ce_type": "tool.confirmed",
        "ce_id": filed.input_id,
        "ce_subject": session,
        "traceparent": TRACEPARENT,
        "dead_reason": "unknown_action",
        "dead_detail": "waits for nothing 🎈",
        "dead_attempts": "3",
        "dead_at": at(),
        "dead_source": f"inbox/{TENANT}/{filed.input_id}",
    }
    assert expected.items() <= letter.headers.items()


def delta(id: str, text: str, index: int = 0) -> bytes:
    content = {"type": "text", "text": text}
    delta = {"type": "content_delta", "index": index, "content": content}
    return msgspec.json.encode({"type": "event_delta", "event_id": id, "delta": delta})


def start(id: str) -> bytes:
    return msgspec.json.encode(
        {"type": "event_start", "event": {"type": "agent.message", "id": id}}
    )


async def test_previews_carry_the_text_in_order_and_whose_it_is(log: Log, session: str) -> None:
    log.publisher.preview(state_of(session), start("e1"), "t1")
    words = [f"word {n} é🎈 " for n in range(40)]
    for word in words:
        log.publisher.preview(state_of(session), delta("e1", word), "t1")
    first, *rest = [
        msgspec.json.decode(record.value)
        for record in await log.read(topics.PREVIEWS.name, session, 2)
    ]
    assert (first["type"], first["data"]) == ("event_start", msgspec.json.decode(start("e1")))
    assert [preview["number"] for preview in (first, *rest)] == list(range(len(rest) + 1))
    assert {preview["turn_id"] for preview in rest} == {"t1"}
    assert {preview["session_id"] for preview in rest} == {session}
    told = "".join(preview["data"]["delta"]["content"]["text"] for preview in rest)
    assert told == "".join(words)


async def test_a_preview_that_cannot_be_read_is_dropped(log: Log, session: str) -> None:
    log.publisher.preview(state_of(session), b"{no json", None)
    log.publisher.preview(state_of(session), start("e1"), None)
    log.publisher.preview(state_of(session), delta("e1", "fine"), None)
    (_, record) = await log.read(topics.PREVIEWS.name, session, 2)
    assert b"fine" in record.value


@pytest.mark.parametrize("log", ["kafka"], indirect=True)
async def test_previews_that_come_together_are_one_record(log: Log, session: str) -> None:
    log.publisher.preview(state_of(session), start("e1"), "t1")
    for n in range(200):
        log.publisher.preview(state_of(session), delta("e1", f"{n} "), "t1")
        log.publisher.preview(state_of(session), delta("e1", f"{n},", index=1), "t1")
    _, *records = await log.read(topics.PREVIEWS.name, session, 3)
    texts = [msgspec.json.decode(r.value)["data"]["delta"]["content"]["text"] for r in records]
    assert texts == ["".join(f"{n}{end}" for n in range(200)) for end in (" ", ",")]
