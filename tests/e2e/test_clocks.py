"""Other services' clocks: their word is kept, durations are by our own clocks, and a day ahead is too far."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.moment import normal, parse
from tests.e2e.api import Api
from tests.e2e.archive import Archive
from tests.e2e.publishing import Sent, dead_letters, publishing, turn
from tests.e2e.tenants import ACME
from tests.e2e.waiting import eventually
from tests.stack import LocalStack

pytestmark = pytest.mark.e2e
DURATIONS = "queue_seconds, first_token_seconds, total_seconds"


def said_at(sent: Sent, at: str) -> Sent:
    """The record with another time of its publisher, in its value and its headers."""
    assert sent.value is not None
    sent.value = json.dumps({**json.loads(sent.value), "at": at}).encode()
    sent.headers["ce_time"] = at.encode()
    return sent


def off_by(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


async def durations(archive: Archive, session: str) -> tuple[float, ...] | None:
    """Those of the session's turn, once it ended."""
    sql = f"SELECT {DURATIONS} FROM turn_facts WHERE session_id = {{session:String}}"
    found = await archive.query(f"{sql} AND ended_at IS NOT NULL", session=session)
    return found[0] if found else None


@pytest.mark.parametrize("hours", [9, -9, 23.9], ids=["ahead", "behind", "nearly a day ahead"])
async def test_durations_are_by_our_clocks_and_the_publishers_word_is_kept(
    local_stack: LocalStack, api: Api, archive: Archive, session_id: str, hours: float
) -> None:
    at, began = off_by(hours), datetime.now(UTC) - timedelta(seconds=1)
    async with publishing(local_stack.kafka) as publisher:
        await publisher.publish(said_at(turn(ACME, session_id, "t1", "what time is it?"), at))
    page = await api.turn_in(session_id, "t1", "completed")
    times = [parse(page[f"{name}_at"]) for name in ("submitted", "started", "first_token", "ended")]
    in_order = [began, *times, datetime.now(UTC)]
    assert in_order == sorted(in_order)
    took = await eventually(lambda: durations(archive, session_id), "the turn in turn_facts")
    assert all(0 <= seconds < 120 for seconds in took)
    accepted = [e for e in await api.events(session_id) if e["type"] == "turn.accepted"]
    assert [event["at"] for event in accepted] == [normal(at)]
    first, last = (await api.session(session_id))["created_at"], accepted[0]["data"]["submitted_at"]
    assert began <= parse(first) <= parse(last) + timedelta(seconds=1)


async def test_a_time_more_than_a_day_ahead_is_a_dead_letter_that_names_it(
    local_stack: LocalStack, api: Api, session_id: str
) -> None:
    async with publishing(local_stack.kafka) as publisher:
        late = said_at(turn(ACME, session_id, "t1", "from the future"), off_by(24.1))
        source = await publisher.publish(late)
        await publisher.publish(turn(ACME, session_id, "t2", "from today"))

    async def found() -> dict[str, Any] | None:
        marks = [dead.marks for dead in await dead_letters(local_stack.kafka)]
        return next((mark for mark in marks if mark["source"] == source), None)

    why = await eventually(found, "the dead letter")
    assert why["reason"] == "invalid_field"
    assert "a day ahead" in why["detail"]
    assert "$.at" in why["detail"]
    assert (await api.ended(session_id, "t2"))["status"] == "completed"
    assert (await api.http.get(f"/v1/sessions/{session_id}/turns/t1")).status_code == 404
