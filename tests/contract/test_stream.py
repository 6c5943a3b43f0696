"""What FastStream must not do by default and does not do with us, each on a real broker; and the attributes of it
that are not documented."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    KafkaError,
    ProducerClosed,
    TopicAuthorizationFailedError,
)

from infra.local.ports import free_ports
from services.agent_worker.adapters.inputs import KafkaInputConsumer
from services.agent_worker.inbox.intake import Intake
from services.gateway.adapters import kafka_consumers
from services.gateway.adapters.kafka_consumers import KafkaRecordConsumer
from shared import stream
from shared.bus.brake import IntakeBrake
from shared.bus.topics import DAY_MS, Topic
from shared.clock import utcnow
from shared.errors import Transient
from shared.kafka import started
from shared.settings import KafkaSettings
from shared.stream import Member, Publishing
from tests.contract.stream_bus import Bus, bus, eventually, new_topic, values
from tests.fakes.store import MemoryStore

__all__ = ["bus"]

pytestmark = pytest.mark.contract
# A decoder of JSON, of UTF-8 or of FastStream's own headers would trip over each of them.
ODD: list[tuple[str, bytes | None]] = [
    ("x-binary", b"\xff\xfe"),
    ("x-null", None),
    ("x-twice", b"1"),
    ("x-twice", b"2"),
    ("content-type", b"application/json"),
    ("correlation_id", b"\x00"),
]


# ---- errors ---------------------------------------------------------------------------------------------------


async def test_an_error_at_record_5_ends_the_run_and_leaves_the_offset_at_5(bus: Bus) -> None:
    inputs, dead = KafkaInputConsumer(bus.make), list[Any]()

    async def bury(bad: Sequence[Any]) -> None:
        dead.extend(bad)
        if len(dead) > 5:
            raise ZeroDivisionError("a bug of ours")

    intake = Intake(
        inputs,
        MemoryStore(utcnow),
        bury=bury,
        knows=lambda _: True,
        news=lambda _: None,
        brake=IntakeBrake(ratio=1.0, window=1000),
        pause=1.0,
    )
    run = asyncio.create_task(intake.run())
    await bus.put(*(b"no json" for _ in range(5)))
    await eventually(lambda: bus.has_committed(5))
    await bus.put(b"record 5", b"record 6")
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(run, 20)
    await inputs.leave()
    assert await bus.committed() == 5
    async with bus.member() as next_one:
        assert await values(next_one, 2) == [b"record 5", b"record 6"]


async def test_inputs_dealt_with_are_committed_while_the_next_are_waited_for(bus: Bus) -> None:
    inputs = KafkaInputConsumer(bus.make)
    await bus.put(b"1")
    await inputs.batch()
    await inputs.commit()
    waiting = asyncio.create_task(inputs.batch())
    await eventually(lambda: bus.has_committed(1))
    await bus.put(b"2")
    assert [record.value for record in await waiting] == [b"2"]
    await inputs.leave()
    assert await bus.committed() == 1, "what is in hand is for the next member"


async def test_who_leaves_commits_what_is_dealt_with(bus: Bus) -> None:
    inputs = KafkaInputConsumer(bus.make)
    await bus.put(b"1")
    await inputs.batch()
    await inputs.commit()
    await inputs.leave()
    assert await bus.committed() == 1


@pytest.mark.parametrize("error", [ZeroDivisionError("ours"), SystemExit(3)])
async def test_an_error_inside_the_reading_reaches_the_reader(
    bus: Bus, error: BaseException
) -> None:
    async with bus.member() as member:

        async def broken(**_: Any) -> Any:
            raise error

        member.consumer.getmany = broken
        await bus.put(b"1", b"2")
        for _ in range(2):
            with pytest.raises(type(error)):
                await member.batch(20)
    assert await bus.committed() == -1
    async with bus.member() as next_one:
        assert await values(next_one, 2) == [b"1", b"2"]


async def test_a_reading_task_that_died_is_the_readers_error_and_not_started_again(
    bus: Bus,
) -> None:
    async with bus.member() as member:

        async def broken() -> Any:
            raise ZeroDivisionError("outside of any handler")

        member.consumer.getone = broken
        await bus.put(b"1", b"2")
        with pytest.raises(ZeroDivisionError):
            await values(member, 3)
        assert [task.done() for task in member._subscriber.tasks] == [True]


async def test_a_kafka_error_of_the_reading_is_counted_and_raised(bus: Bus) -> None:
    inputs = KafkaInputConsumer(bus.make)
    member = await inputs.join()

    async def refused() -> Any:
        raise TopicAuthorizationFailedError(bus.topic)

    member.consumer.getone = refused
    await bus.put(b"1", b"2")
    with pytest.raises(TopicAuthorizationFailedError):
        await asyncio.wait_for(read_on(inputs), 20)
    assert bus.errors() == 1
    await inputs.leave()


async def read_on(inputs: KafkaInputConsumer) -> None:
    while True:
        await inputs.batch()


async def test_an_error_while_more_is_looked_for_loses_no_record(bus: Bus) -> None:
    async with bus.member() as member:
        getmany, refused = member.consumer.getmany, [TopicAuthorizationFailedError(bus.topic)]

        async def once_refused(**asked: Any) -> Any:
            if refused:
                raise refused.pop()
            return await getmany(**asked)

        member.consumer.getmany = once_refused
        await bus.put(b"1", b"2", b"3")
        assert await values(member, 3) == [b"1", b"2", b"3"]
        assert bus.errors() == 1


async def test_readiness_falls_while_the_projector_cannot_read(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_consumers, "GROUP", bus.group)
    for name in ("INPUTS", "EVENTS"):
        about = Topic(bus.topic, "records of a test", "", "", retention_ms=DAY_MS)
        monkeypatch.setattr(kafka_consumers, name, about)
    feed = KafkaRecordConsumer(bus.settings)
    await feed.batch(0.1)
    await feed.check()

    async def refused() -> Any:
        raise TopicAuthorizationFailedError(bus.topic)

    assert feed._member is not None
    feed._member.consumer.getone = refused
    await bus.put(b"1")
    assert [record.value for record in await feed.batch(20)] == [b"1"]
    with pytest.raises(Transient):
        await feed.batch(5)
    with pytest.raises(Transient, match="TopicAuthorizationFailed"):
        await feed.check()
    assert bus.errors() == 1
    await feed.rewind()  # as the projector does: it joins anew
    assert [record.value for record in await feed.batch(20)] == [b"1"]
    await feed.check()
    await feed.stop()


# ---- records as they came -------------------------------------------------------------------------------------


async def test_records_come_as_they_are_in_the_log(bus: Bus) -> None:
    await bus.put(b"{no json", headers=ODD)
    await bus.put(b"\xff\xfe", headers=ODD)
    await bus.producer.send_and_wait(bus.topic, None, key=b"\x00", headers=ODD)
    async with bus.member() as member:
        found: list[Any] = []
        while len(found) < 3:
            found += await member.batch(20)
    assert [record.value for record in found] == [b"{no json", b"\xff\xfe", None]
    assert [list(record.headers) for record in found] == [ODD] * 3


async def test_a_record_that_asks_for_a_reply_gets_none(bus: Bus) -> None:
    elsewhere = await new_topic(bus.settings.kafka_bootstrap)
    await bus.put(b"1", headers=[("reply_to", elsewhere.encode())])
    async with bus.member() as member:
        assert await values(member, 1) == [b"1"]
        await member.commit()
        await member.batch(0.2)
    consumer: Any = AIOKafkaConsumer(
        bootstrap_servers=bus.settings.kafka_bootstrap, isolation_level="read_committed"
    )
    await consumer.start()
    place = TopicPartition(elsewhere, 0)
    assert (await consumer.end_offsets([place]))[place] == 0
    await consumer.stop()


# ---- offsets --------------------------------------------------------------------------------------------------


async def test_commits_name_their_offsets(bus: Bus) -> None:
    async with bus.member() as member:
        commit, named = member.consumer.commit, list[Any]()

        async def watched(*offsets: Any) -> None:
            named.append(offsets)
            await commit(*offsets)

        member.consumer.commit = watched
        await bus.put(b"1", b"2")
        await values(member, 2)
        await member.commit()
        await member.commit()
        await bus.put(b"3")
        await values(member, 1)
    assert named == [({TopicPartition(bus.topic, 0): 2},)]
    assert await bus.committed() == 2


async def test_what_the_reader_does_not_know_yet_is_not_committed(bus: Bus) -> None:
    async with bus.member() as member:
        assert not await member.batch(0.2)
        await bus.put(b"1")

        async def is_taken() -> bool:
            return bool(await member.consumer.position(TopicPartition(bus.topic, 0)) == 1)

        await eventually(is_taken)
        await member.commit()
        assert await bus.committed() < 1
        assert await values(member, 1) == [b"1"]
        await member.commit()
        assert await bus.committed() == 1


async def test_nothing_is_read_while_a_batch_is_in_hand(bus: Bus) -> None:
    async with bus.member() as member:
        await bus.put(b"1")
        await values(member, 1)
        await bus.put(b"2")
        await asyncio.sleep(0.3)
        assert await member.consumer.position(TopicPartition(bus.topic, 0)) == 1
        assert await values(member, 1) == [b"2"]


async def test_what_waits_is_given_at_once_and_together(bus: Bus) -> None:
    await asyncio.gather(*(bus.put(b"%d" % number) for number in range(1200)))
    async with bus.member() as member:
        sizes = list[int]()
        while sum(sizes) < 1200:
            sizes.append(len(await member.batch(20)))
    assert max(sizes) == 500
    assert len(sizes) < 20


async def test_a_rewind_gives_again_what_was_not_committed(bus: Bus) -> None:
    async with bus.member() as member:
        await bus.put(b"1")
        await values(member, 1)
        await member.commit()
        await bus.put(b"2", b"3")
        await values(member, 2)
        await member.rewind()
        assert await values(member, 2) == [b"2", b"3"]


async def test_a_rewind_before_the_first_commit_gives_everything_again(bus: Bus) -> None:
    async with bus.member() as member:
        await bus.put(b"1", b"2")
        assert await values(member, 2) == [b"1", b"2"]
        await member.rewind()
        assert await values(member, 2) == [b"1", b"2"]
        await member.commit()
        assert await bus.committed() == 2


async def test_a_rewind_between_two_assignments_changes_nothing(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bus.member() as member:
        await bus.put(b"1")
        assert await values(member, 1) == [b"1"]
        await member.commit()
        with monkeypatch.context() as patch:
            patch.setattr(member.consumer._subscription, "assigned_partitions", frozenset)
            await member.rewind()
        await bus.put(b"2")
        assert await values(member, 1) == [b"2"]


async def test_a_reading_task_that_somebody_cancelled_is_told_to_the_reader(bus: Bus) -> None:
    """Its member would stay in the group and keep its partitions, and nobody would read them."""
    async with bus.member() as member:
        await bus.put(b"1")
        assert await values(member, 1) == [b"1"]
        for task in member._subscriber.tasks:
            task.cancel()
        with pytest.raises(RuntimeError, match="cancelled"):
            await values(member, 1)


@pytest.mark.parametrize("bus", [2], indirect=True)
async def test_a_rebalance_with_a_batch_in_hand_loses_nothing(bus: Bus) -> None:
    wanted = {b"%d" % number for number in range(300)}
    for number in range(300):
        await bus.put(b"%d" % number, partition=number % 2)
    seen = set[bytes]()

    async def read(member: Member) -> None:
        while True:
            found = await member.batch(0.2)
            await asyncio.sleep(0.01)
            seen.update(record.value or b"" for record in found)
            with contextlib.suppress(KafkaError):  # a rebalance came first
                await member.commit()

    async def all_is_committed() -> bool:
        return [await bus.committed(0), await bus.committed(1)] == [150, 150]

    async with bus.member() as first:
        held = {record.value for record in await first.batch(20)}
        async with bus.member() as second:
            await eventually(lambda: is_shared(first, second))
            await first.commit()
            reading = [asyncio.create_task(read(member)) for member in (first, second)]
            await eventually(all_is_committed)
            for task in reading:
                task.cancel()
    assert seen | held == wanted


async def is_shared(*members: Member) -> bool:
    return all(len(member.assignment()) == 1 for member in members)


# ---- start and stop -------------------------------------------------------------------------------------------


async def test_a_member_that_stops_with_a_batch_in_hand_stops_at_once_and_leaves_it(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not wait for its handler, which waits for the reader."""
    monkeypatch.setattr(stream, "GRACEFUL_S", 60.0)
    await bus.put(b"1", b"2")
    async with bus.member() as member:
        await values(member, 2)
        async with asyncio.timeout(20):
            await member.stop()
    async with bus.member() as next_one:
        assert await values(next_one, 2) == [b"1", b"2"]


@asynccontextmanager
async def forwarding(port: int, to: str) -> AsyncIterator[None]:
    """What is said to `port` is said to the broker."""
    host, _, real = to.rpartition(":")

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(real))
        await asyncio.gather(copy(reader, back), copy(there, writer), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()


async def test_a_broker_that_is_away_at_the_start_is_waited_for(bus: Bus) -> None:
    (port,) = free_ports(1)
    real = bus.settings.kafka_bootstrap
    settings = KafkaSettings(kafka_bootstrap=f"127.0.0.1:{port}")
    producing = asyncio.create_task(started(lambda: Publishing(settings, "test")))
    reading = asyncio.create_task(
        started(lambda: Member(settings, "test", bus.group, bus.topic, most=10))
    )
    await asyncio.sleep(1.5)
    assert not producing.done()
    assert not reading.done()
    async with forwarding(port, real), asyncio.timeout(30):
        producer, member = await producing, await reading
        await producer.send_and_wait(bus.topic, value=b"1", key=b"k", headers=[])
        assert await values(member, 1) == [b"1"]
        await producer.stop()
        await member.stop()


# ---- publishing -----------------------------------------------------------------------------------------------


async def test_what_is_published_carries_these_headers_and_no_others(bus: Bus) -> None:
    headers = [("ce_id", "é".encode()), ("x", b"\xff"), ("x", b"2")]
    producer = await started(lambda: Publishing(bus.settings, "test"))
    await producer.send_and_wait(bus.topic, value=b"{}", key=b"ses_1", headers=headers)
    sent = [await producer.send(bus.topic, value=b"%d" % n, key=None, headers=[]) for n in range(3)]
    await asyncio.gather(*sent)
    await producer.check()
    await producer.stop()
    async with bus.member() as member:
        found: list[Any] = []
        while len(found) < 4:
            found += await member.batch(20)
    assert (found[0].key, found[0].value, list(found[0].headers)) == (b"ses_1", b"{}", headers)
    assert [list(record.headers) for record in found[1:]] == [[], [], []]


async def test_a_stopped_producer_publishes_no_more(bus: Bus) -> None:
    producer = await started(lambda: Publishing(bus.settings, "test"))
    await producer.stop()
    with pytest.raises(ProducerClosed):
        await producer.send(bus.topic, value=b"1", key=None, headers=[])


# ---- what FastStream does not document ---------------------------------------------------


async def test_the_attributes_that_are_not_documented_are_there(bus: Bus) -> None:
    async with bus.member() as member:
        (task,) = member._subscriber.tasks
        assert isinstance(task, asyncio.Task)
        assert member._subscriber.running is True
        await bus.put(b"1")
        await values(member, 1)
        member._subscriber.running = False  # the record under way is the last one
        await bus.put(b"2")
        with pytest.raises(RuntimeError, match="ended by itself"):
            await member.batch(5)
        assert task.done()
    producer = await started(lambda: Publishing(bus.settings, "test"))
    assert producer._broker.config.broker_config.producer is producer._producer
    assert producer._broker.config.producer is producer._producer
    assert isinstance(producer._producer.client, AIOKafkaProducer)
    await producer.stop()
