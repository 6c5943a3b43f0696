"""Sessions that nobody talks to, on a stack whose rests are short: idle, archived, gone on with; background ones
end with their result; those whose provider session was made before any turn give it back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.agent_worker.provider.front import HEADING
from tests.e2e.place import TENANT, Place, placed, said, shown

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
async def place() -> AsyncIterator[Place]:
    rests = {
        "TURNSTILE_IDLE_SECONDS": "2",
        "TURNSTILE_ARCHIVE_SECONDS": "6",
        "TURNSTILE_LINGER_SECONDS": "1",
        "TURNSTILE_PREWARM_SECONDS": "6",
    }
    async with placed(**rests) as place:
        yield place


async def test_a_session_that_was_left_alone_goes_on_with_its_past(place: Place) -> None:
    api = place.api
    await api.open("left")
    await api.say("left", "t1", "My name is Ada.")
    first = await api.ended("left", "t1")
    await said(api, "left", "session.status_terminated")
    types = [event["type"] for event in await api.events("left")]
    assert types[-4:] == [
        "session.idled",
        "session.idled",
        "session.archived",
        "session.status_terminated",
    ]
    page = await shown(api, "left", "archived")
    assert page["resumable"] is True

    await api.say("left", "t2", "Who am I?")
    ended = await api.ended("left", "t2")

    assert ended["status"] == "completed"
    _, second = await place.provider.of(TENANT, "left")
    (message,) = (await place.provider.log(second)).user_messages
    past, own = message["content"]
    assert past["text"].startswith(HEADING)
    assert "My name is Ada." in past["text"]
    assert first["reply"] in past["text"]
    assert own["text"] == "Who am I?"
    seqs = [event["seq"] for event in await api.events("left")]
    assert seqs == list(range(1, len(seqs) + 1))


async def test_a_background_session_is_deleted_with_its_result_and_takes_another_turn(
    place: Place,
) -> None:
    api = place.api
    await api.open("job", mode="background")
    await api.say("job", "t1", "Count the words.")
    first = await api.ended("job", "t1")
    assert first["status"] == "completed"
    (session,) = await place.provider.of(TENANT, "job")
    await place.provider.deleted(session)
    page = await shown(api, "job", "archived")
    assert page["resumable"] is True

    await api.say("job", "t2", "And once more.")
    assert (await api.ended("job", "t2"))["status"] == "completed"
    _, second = await place.provider.of(TENANT, "job")
    await place.provider.deleted(second)


async def test_a_session_that_was_archived_on_request_stays_closed(place: Place) -> None:
    api = place.api
    await api.open("closed")
    await api.say("closed", "t1", "Hello.")
    await api.ended("closed", "t1")
    await said(api, "closed", "session.archived")
    assert (await api.http.post("/v1/sessions/closed/archive")).status_code == 202
    late = await api.http.post("/v1/sessions/closed/turns", json={"content": "hello?"})
    assert (late.status_code, late.json()["type"].rpartition(":")[2]) == (409, "session_archived")
    await said(api, "closed", "session.archived", times=2)


async def test_a_stream_stays_open_over_the_rest(place: Place) -> None:
    api = place.api
    await api.open("heard")
    await api.say("heard", "t1", "Hello.")
    heard: list[str] = []

    async def listen() -> None:
        stream = api.http.stream(
            "GET", "/v1/sessions/heard/events", headers={"Accept": "text/event-stream"}
        )
        async with stream as answer:
            async for line in answer.aiter_lines():
                if line.startswith("event: "):
                    heard.append(line.removeprefix("event: "))
                if heard.count("turn.completed") == 2:
                    return

    listening = asyncio.create_task(listen())
    await said(api, "heard", "session.archived")
    await api.say("heard", "t2", "Still there?")
    await asyncio.wait_for(listening, 60)
    assert "end" not in heard
    assert heard.index("session.archived") < heard.index("session.rotated")


async def test_the_provider_session_is_there_before_the_first_turn_which_goes_to_it(
    place: Place,
) -> None:
    api = place.api
    await api.open("warm", prewarm=True)
    await said(api, "warm", "session.prewarmed")
    (made,) = await place.provider.of(TENANT, "warm")
    assert (await place.provider.log(made)).user_messages == []

    await api.say("warm", "t1", "Hello.")
    assert (await api.ended("warm", "t1"))["status"] == "completed"

    assert await place.provider.of(TENANT, "warm") == [made]
    assert (await place.provider.log(made)).prompts == ["Hello."]
    types = [event["type"] for event in await api.events("warm")]
    assert types[:4] == ["session.opened", "session.prewarmed", "turn.accepted", "turn.started"]


async def test_one_that_gets_no_turn_is_given_back_and_the_session_takes_a_late_one(
    place: Place,
) -> None:
    api = place.api
    opened = await api.post("/v1/prewarm", {"user_id": "u9"}, 201)
    session = str(opened["session_id"])
    await said(api, session, "session.archived")
    page = await shown(api, session, "archived")
    assert page["resumable"] is True
    await said(api, session, "session.status_terminated")

    await api.say(session, "t1", "Too late?")
    assert (await api.ended(session, "t1"))["status"] == "completed"
    first, second = await place.provider.of(TENANT, session)
    assert (await place.provider.log(first)).user_messages == []
    assert (await place.provider.log(second)).prompts == ["Too late?"]
