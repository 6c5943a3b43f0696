"""Sessions whose provider session is made before any turn, on a stack that gives it back soon."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.e2e.place import TENANT, Place, placed, said, shown

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
async def place() -> AsyncIterator[Place]:
    async with placed(TURNSTILE_PREWARM_SECONDS="6") as place:
        yield place


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
