"""Waiting that comes to something: turns for company, people who never answer, agents that fall silent, sessions
that die and whose conversation goes on elsewhere. On a stack whose waits are short; all wait at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime

import pytest

from infra.simulator import reply_to, text_of
from services.agent_worker.provider.front import HEADING
from services.agent_worker.session.prompt import NUDGE
from tests.e2e.api import Api
from tests.e2e.place import TENANT, Place, placed

pytestmark = pytest.mark.e2e
# The first turn of each session.
FIRST = {
    "nobody": "May you? [[script: confirm]]",
    "silent": "Take your time. [[script: long hold=1 events=20]]",
    "builds": "Build it. [[script: tools rounds=1 calls=1 runs=8]]",
    "hangs": "Build it. [[script: tools rounds=1 calls=1 runs=60]]",
    "moves": "My name is Ada.",
}


@pytest.fixture(scope="module")
async def place() -> AsyncIterator[Place]:
    waits = {
        "TURNSTILE_COALESCE_SECONDS": "3",
        "TURNSTILE_ANSWER_SECONDS": "2",
        "TURNSTILE_SILENCE_SECONDS": "6",
        "TURNSTILE_TOOL_CALL_SECONDS": "12",
    }
    async with placed(**waits) as place:
        await asyncio.gather(*(begin(place.api, session, text) for session, text in FIRST.items()))
        yield place


async def begin(api: Api, session: str, text: str) -> None:
    await api.open(session)
    await api.say(session, "t1", text)


async def types(api: Api, session: str) -> list[str]:
    return [event["type"] for event in await api.events(session)]


async def test_turns_within_a_moment_are_one_message_and_each_of_them_completes(
    place: Place,
) -> None:
    api = place.api
    await api.open("company")
    parts = [f"part {n} of what I mean" for n in range(3)]
    await asyncio.gather(
        *(api.say("company", f"t{n}", p, on_busy="coalesce") for n, p in enumerate(parts))
    )

    ended = [await api.ended("company", f"t{n}") for n in range(3)]

    log = await place.provider.only(TENANT, "company")
    (message,) = log.user_messages
    assert sorted(block["text"] for block in message["content"]) == parts
    assert {turn["status"] for turn in ended} == {"completed"}
    assert {turn["reply"] for turn in ended} == {reply_to(text_of(message["content"]))}
    assert len([turn for turn in ended if turn["cost_usd"] > 0]) == 1
    page = await api.settled("company")
    assert (page["status"], page["open_turn"]) == ("idle", None)


async def test_what_nobody_answers_is_denied_and_the_agent_goes_on(place: Place) -> None:
    api = place.api
    ended = await api.ended("nobody", "t1")

    assert ended["status"] == "completed"
    said = await types(api, "nobody")
    assert said.index("turn.requires_action") < said.index("turn.unanswered")
    (log,) = [await place.provider.only(TENANT, "nobody")]
    results = [one["result"] for one in log.inputs if one["type"] == "user.tool_confirmation"]
    assert set(results) == {"deny"}


async def test_a_silent_agent_is_interrupted_told_and_goes_on(place: Place) -> None:
    api = place.api
    ended = await api.ended("silent", "t1")

    assert (ended["status"], ended["reply"]) == ("completed", reply_to(NUDGE))
    log = await place.provider.only(TENANT, "silent")
    assert [text_of(message["content"]) for message in log.user_messages][1:] == [NUDGE]
    said = await types(api, "silent")
    assert said.count("turn.stalled") == 1
    assert said.index("turn.stalled") < said.index("turn.retrying")


async def test_an_agent_whose_tool_runs_for_longer_than_it_may_be_silent_is_left_alone(
    place: Place,
) -> None:
    api = place.api
    ended = await api.ended("builds", "t1")

    assert (ended["status"], ended["reply"]) == ("completed", reply_to(FIRST["builds"]))
    assert "turn.stalled" not in await types(api, "builds")
    log = await place.provider.only(TENANT, "builds")
    assert [given["type"] for given in log.inputs] == ["user.message"]


async def test_a_tool_that_takes_longer_than_a_call_may_is_interrupted(place: Place) -> None:
    api = place.api
    ended = await api.ended("hangs", "t1")

    assert (ended["status"], ended["reply"]) == ("completed", reply_to(NUDGE))
    events = await api.events("hangs")
    used, stalled = (
        next(datetime.fromisoformat(event["at"]) for event in events if event["type"] == kind)
        for kind in ("agent.tool_use", "turn.stalled")
    )
    assert 11 < (stalled - used).total_seconds() < 40


async def test_a_conversation_goes_on_in_another_session_with_its_past(place: Place) -> None:
    api = place.api
    first = await api.ended("moves", "t1")
    await api.say("moves", "t2", "Who am I? [[script: terminal times=1]]")

    ended = await api.ended("moves", "t2")

    assert ended["status"] == "completed"
    _, second = await place.provider.of(TENANT, "moves")
    (message,) = (await place.provider.log(second)).user_messages
    past, own = message["content"]
    assert own["text"] == "Who am I? [[script: terminal times=1]]"
    assert past["text"].startswith(HEADING)
    assert FIRST["moves"] in past["text"]
    assert first["reply"] in past["text"]
    assert (await types(api, "moves")).count("session.rotated") == 1
