"""Deadlines of turns, driven: in virtual time, against a provider that holds on."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from shared.moment import parse
from shared.session.events import Turn
from shared.session.key import SessionKey
from tests.builders import SESSION, TENANT, turn
from tests.unit.agent_worker.outcome import the_log
from tests.unit.agent_worker.outside import Outside
from tests.unit.agent_worker.test_shell import given, settled
from tests.unit.agent_worker.virtual_time import virtual

pytestmark = pytest.mark.unit
KEY: SessionKey = (TENANT, SESSION)


def ended(outside: Outside) -> dict[str, Turn]:
    """Turns that were interrupted, by id."""
    ends = (event for event in the_log(outside) if event.type == "turn.interrupted")
    return {event.turn_id or "": msgspec.json.decode(event.data, type=Turn) for event in ends}


def reason(told: Turn) -> str | None:
    return told.error.type if told.error else None


def seconds(told: Turn) -> float:
    assert told.ended_at is not None
    return (parse(told.ended_at) - parse(told.submitted_at)).total_seconds()


@virtual
async def test_an_agent_that_holds_on_is_interrupted_at_the_deadline() -> None:
    outside, _ = given()
    outside.ask(turn("t1", "hold on", deadline_seconds=30))
    await settled(outside)
    told = ended(outside)["t1"]
    assert reason(told) == "deadline_exceeded"
    assert 30 <= seconds(told) < 31
    assert [event.type for event in the_log(outside)].count("turn.overdue") == 1


@virtual
async def test_a_queued_turn_ends_at_its_deadline_and_is_not_sent() -> None:
    outside, _ = given()
    outside.ask(turn("t1", "hold on"))
    await outside.said("user.message")
    outside.ask(turn("t2", "soon", deadline_seconds=20))
    await outside.until(lambda: "t2" in ended(outside), "the end of what waits")
    assert 20 <= seconds(ended(outside)["t2"]) < 21
    (session,) = outside.provider.sessions.values()
    session.release()
    await settled(outside)
    assert outside.received == ["hold on"]


@virtual
async def test_a_turn_that_waits_for_people_is_a_due_row_at_its_deadline() -> None:
    outside, _ = given()
    outside.ask(turn("t1", "[[script: confirm]]", deadline_seconds=90))
    row = outside.store.rows
    await outside.until(
        lambda: KEY in row and row[KEY].wake_at is not None, "the session let go of"
    )
    await settled_interrupted(outside)
    told = ended(outside)["t1"]
    assert reason(told) == "deadline_exceeded"
    assert 90 <= seconds(told) < 92


async def settled_interrupted(outside: Outside) -> None:
    await outside.until(lambda: "t1" in ended(outside), "the end by the deadline")


@virtual
async def test_a_deadline_that_passes_while_nobody_drives_is_kept_by_the_next_driver() -> None:
    outside, first = given()
    outside.ask(turn("t1", "hold on", deadline_seconds=10))
    await outside.said("user.message")
    await first.drain()
    await asyncio.sleep(60)
    given("another", outside)
    await settled(outside)
    assert reason(ended(outside)["t1"]) == "deadline_exceeded"
    assert outside.received == ["hold on"]
