"""Something that others stand on is away for a while: what can go on does, and nothing is lost or repeated."""

from __future__ import annotations

import time

import pytest

from infra.simulator import reply_to
from tests.e2e.crowd import Crowd
from tests.e2e.recorded import assert_sent_once
from tests.e2e.tenants import ACME
from tests.e2e.world import Tell, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
ANSWER_WITHIN_S = 5.0


@pytest.mark.parametrize("part", ["recorder", "clickhouse"])
async def test_turns_go_on_without_the_archive_which_catches_up(
    world: World, tell: Tell, part: str
) -> None:
    crowd = await world.crowd(f"no-{part}")
    async with world.without(part):
        await _all_go_on(crowd)
        await crowd.ended()
        one = crowd.held[0]
        page = await world.api.settled(one.session_id)
        heard = await world.api.heard(one.session_id, page["last_seq"], after=0)
        assert [event.seq for event in heard] == list(range(1, page["last_seq"] + 1))
    began = time.monotonic()
    await crowd.check()
    caught_up = time.monotonic() - began
    tell(
        f"{part} away: all turns ended without it; all archived {caught_up:.1f} s after its return"
    )


async def test_a_turn_is_refused_while_the_log_is_away_and_taken_once_after(
    world: World, tell: Tell, session_id: str
) -> None:
    crowd = await world.crowd("no-kafka")
    await world.api.open(session_id)
    body = {"content": "are you there", "turn_id": "turn-1"}
    path = f"/v1/sessions/{session_id}/turns"
    async with world.without("kafka"):
        for _ in range(2):
            began = time.monotonic()
            answer = await world.api.http.post(path, json=body)
            took = time.monotonic() - began
            assert answer.status_code == 503, answer.text
            assert answer.json()["type"] == "urn:turnstile:problem:kafka_unavailable"
            assert took < ANSWER_WITHIN_S
        await crowd.release(crowd.held)  # the agents' work goes on, and can't be published
    began = time.monotonic()
    await world.api.post_stubbornly(path, body)
    await world.api.post_stubbornly(path, body)
    page = await world.api.ended(session_id, "turn-1")
    assert (page["status"], page["reply"]) == ("completed", reply_to("are you there"))
    assert_sent_once(await world.provider.only(ACME, session_id), ["are you there"])
    await crowd.answer()
    await crowd.say()
    await crowd.ended()
    tell(f"kafka away: all turns ended {time.monotonic() - began:.1f} s after its return")
    await crowd.check()


async def test_a_database_that_restarts_stops_nobody(world: World, tell: Tell) -> None:
    crowd = await world.crowd("no-postgres")
    async with world.without("postgres"):
        await crowd.release(crowd.held)
        one = crowd.moving[0].session_id
        # What is known of the session is read from it: try again later, not "there is none".
        answer = await world.api.http.get(f"/v1/sessions/{one}/turns/turn-1")
        assert answer.status_code in (200, 503), answer.text
    began = time.monotonic()
    await crowd.say()
    await crowd.answer()
    await crowd.ended()
    tell(f"postgres away: all turns ended {time.monotonic() - began:.1f} s after its return")
    await crowd.check()


async def _all_go_on(crowd: Crowd) -> None:
    """Everybody talks, every question is answered, every held turn released."""
    await crowd.say()
    await crowd.answer()
    await crowd.release(crowd.held)
