"""Every part is killed in the middle of a dozen conversations: all go on, nothing is lost or repeated."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from tests.e2e.crowd import Crowd
from tests.e2e.recorded import assert_sent_once
from tests.e2e.tenants import ACME
from tests.e2e.topic import assert_one_body_for_one_seq, published
from tests.e2e.world import SERVICES, WORKER, Tell, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

ALL_BUT_THE_PROVIDER = ["kafka", "postgres", "clickhouse", *SERVICES]
KILL, TERM = signal.SIGKILL, signal.SIGTERM


@pytest.mark.parametrize(
    ("number", "parts"),
    [
        (KILL, ["gateway"]),
        (KILL, ["recorder"]),
        (KILL, ["clickhouse"]),
        (TERM, [WORKER, "recorder"]),
        (KILL, ["kafka"]),
        (KILL, ["postgres"]),
    ],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else "+".join(value),
)
async def test_conversations_outlive_the_death_of_parts(
    world: World, tell: Tell, number: signal.Signals, parts: list[str]
) -> None:
    crowd = await world.crowd("-".join([number.name, *parts]))
    others = world.pids(*parts)
    await _live_through(world, crowd, parts, number, tell)
    assert world.pids(*parts) == others, "others died of it"


async def test_conversations_outlive_the_death_of_everything_at_once(
    world: World, tell: Tell
) -> None:
    crowd = await world.crowd("power-cut")
    await _live_through(world, crowd, ALL_BUT_THE_PROVIDER, KILL, tell)


async def _live_through(
    world: World, crowd: Crowd, parts: list[str], number: signal.Signals, tell: Tell
) -> None:
    """Signal the parts, go on talking while they are away, and check it all in the end."""
    stack, began = world.stack, time.monotonic()
    former = {part: stack.kill(part, number) for part in parts}

    async def until_back() -> float:
        await asyncio.gather(*(stack.back(part, pid) for part, pid in former.items()))
        return time.monotonic()

    back, _, _, _ = await asyncio.gather(
        until_back(), crowd.say(), crowd.answer(), crowd.release(crowd.held[:2])
    )
    await crowd.release(crowd.held[2:])
    ended = await crowd.ended()
    await crowd.check()
    turns = sum(len(one.texts) for one in crowd.members)
    tell(
        f"{number.name} {', '.join(parts)}: serves again after {back - began:.1f} s; all {turns}"
        f" turns of {len(crowd.members)} conversations ended after {ended - began:.1f} s, none"
        f" lost or doubled; repeats in the table, unmerged: {await crowd.raw_repeats()}"
    )


async def test_conversations_outlive_a_worker_that_is_killed_and_killed_again(
    world: World, tell: Tell
) -> None:
    crowd = await world.crowd("twice")
    others = world.pids(WORKER)
    await asyncio.gather(crowd.say(), world.restart(WORKER))
    await _live_through(world, crowd, [WORKER], KILL, tell)
    assert world.pids(WORKER) == others, "others died of it"


async def test_calls_that_landed_before_the_worker_died_are_not_repeated(
    world: World, session_id: str
) -> None:
    """The provider made the session, or took the message, and says so too late: the next worker
    must find out, not do it again."""
    creates, sends = f"{session_id}-creates", f"{session_id}-sends"
    for name, path in ((creates, "/v1/sessions$"), (sends, "/events$")):
        match = {"method": "POST", "path": path, "body": name, "times": 1}
        await world.provider.fault(match, {"kind": "land_then_delay", "seconds": 20})
        await world.api.open(name)
        await world.api.say(name, "turn-1", f"{name}, turn 1")
        await world.provider.struck(match)
    await world.restart(WORKER)
    await world.provider.no_faults()
    for name in (creates, sends):
        page = await world.api.ended(name, "turn-1")
        assert page["status"] == "completed", page
        assert_sent_once(await world.provider.only(ACME, name), [f"{name}, turn 1"])


async def test_what_was_said_twice_on_kafka_was_the_same(world: World, tell: Tell) -> None:
    """Over everything that the tests of this stack have published so far."""
    repeats = assert_one_body_for_one_seq(await published(world.stack.kafka))
    tell(f"records said again on Kafka after a crash: {repeats}")
