"""Ten thousand records that nobody can use, of several publishers and kinds: the good turn behind them is played in
ten seconds, and each of them is a dead letter in thirty."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.partitioner import DefaultPartitioner

from infra.simulator import reply_to
from tests.e2e.api import Api
from tests.e2e.publishing import DEAD, INPUTS, Sent, turn
from tests.e2e.tenants import ACME
from tests.e2e.test_bad_records import BAD
from tests.e2e.waiting import eventually
from tests.stack import LocalStack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
SESSION = "behind-the-burst"
COUNT, PUBLISHERS = 10_000, 3
TURN_S, LETTERS_S = 10.0, 30.0
# All but what is slow to publish.
KINDS = [spoil for name, spoil, _, _ in BAD if name != "bottomless"]


def bad(number: int) -> Sent:
    sent = turn(ACME, SESSION, f"never-{number}", "a bad turn")
    sent.headers["ce_source"] = f"/broken-{number % PUBLISHERS}".encode()
    KINDS[number % len(KINDS)](sent)
    return sent


async def publish(stack: LocalStack, records: list[Sent]) -> None:
    """All of them to the session's partition, in order."""
    producer = AIOKafkaProducer(
        bootstrap_servers=stack.kafka, acks="all", enable_idempotence=True, max_batch_size=1 << 20
    )
    await producer.start()
    try:
        numbers = sorted(await producer.partitions_for(INPUTS))
        partition = DefaultPartitioner()(SESSION.encode(), numbers, numbers)
        sent = [
            await producer.send(
                INPUTS,
                key=one.key,
                value=one.value,
                headers=list(one.headers.items()),
                partition=partition,
            )
            for one in records
        ]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def letters(stack: LocalStack) -> int:
    """How many records the dead letters' topic has."""
    consumer: Any = AIOKafkaConsumer(
        bootstrap_servers=stack.kafka, isolation_level="read_committed"
    )
    await consumer.start()
    try:
        places = [TopicPartition(DEAD, number) for number in range(12)]
        return int(sum((await consumer.end_offsets(places)).values()))
    finally:
        await consumer.stop()


async def counted(stack: LocalStack) -> Counter[str]:
    """The worker's dead letters by who published them."""
    place = Path(f"/proc/{stack.pid('agent-worker-1')}/environ")
    settings = (await asyncio.to_thread(place.read_bytes)).split(b"\0")
    [health] = [s.split(b"=")[1].decode() for s in settings if b"TURNSTILE_HEALTH_PORT" in s]
    async with httpx2.AsyncClient() as client:
        text = (await client.get(f"http://127.0.0.1:{health}/metrics")).text
    form = r'turnstile_dead_letters_by_source_total\{source="([^"]+)"\} (\S+)'
    return Counter({source: int(float(value)) for source, value in re.findall(form, text)})


def lines(stack: LocalStack) -> int:
    """What the worker's log says of dead letters, in lines."""
    return stack.settings.folders.log_file("agent-worker-1").read_text().count('"dead_letter"')


async def test_ten_thousand_bad_records_hold_up_nobody(local_stack: LocalStack, api: Api) -> None:
    stack = local_stack
    await api.open(SESSION)
    await api.say(SESSION, "before", "hello")
    await api.turn_in(SESSION, "before", "completed")
    behind = turn(ACME, SESSION, "behind", "all well?")
    letters_before, counted_before = await letters(stack), await counted(stack)
    lines_before = lines(stack)
    await publish(stack, [*(bad(number) for number in range(COUNT)), behind])
    began = time.monotonic()
    page = await api.turn_in(SESSION, "behind", "completed")
    played = time.monotonic() - began

    async def all_there() -> int | None:
        found = await letters(stack) - letters_before
        return found if found >= COUNT else None

    await eventually(all_there, "every bad record among the dead letters", LETTERS_S)
    buried = time.monotonic() - began
    print(f"the turn took {played:.1f} s, the dead letters {buried:.1f} s")
    assert page["reply"] == reply_to("all well?")
    assert played < TURN_S
    assert buried < LETTERS_S
    assert await letters(stack) - letters_before == COUNT
    by_source = await counted(stack) - counted_before
    assert sum(by_source.values()) == COUNT
    assert {f"/broken-{number}" for number in range(PUBLISHERS)} <= by_source.keys()
    assert lines(stack) - lines_before < 2_000
