"""With TURNSTILE_PARK_SESSIONS turns wait behind a dead letter, until the operator's commands let them go on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.e2e.api import Api
from tests.e2e.provider import Provider
from tests.e2e.publishing import Publisher, Sent, publishing, turn
from tests.e2e.tenants import ACME, KEYS
from tests.e2e.test_audit import turnstile
from tests.e2e.waiting import eventually
from tests.stack import LocalStack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture
async def api(strict_stack: LocalStack) -> AsyncIterator[Api]:
    client = Api(strict_stack.gateway, KEYS[ACME])
    yield client
    await client.http.aclose()


@pytest.fixture
async def publisher(strict_stack: LocalStack) -> AsyncIterator[Publisher]:
    async with publishing(strict_stack.kafka) as publisher:
        yield publisher


def unusable(session: str, turn_id: str) -> Sent:
    return turn(ACME, session, turn_id, content="first", on_busy="whenever")


async def parked(api: Api, session: str) -> None:
    """Wait until the session says that it waits."""

    async def look() -> bool:
        answer = await api.http.get(f"/v1/sessions/{session}")
        if answer.status_code != 200:
            return False
        return any(event["type"] == "session.parked" for event in await api.events(session))

    await eventually(look, f"{session} parked")


async def accepted(api: Api, session: str, turn_id: str) -> None:
    """Wait until the session, not only the gateway, has taken the turn up and put it in line."""

    async def look() -> bool:
        told = [(e["type"], e["turn_id"]) for e in await api.events(session)]
        return ("turn.accepted", turn_id) in told

    await eventually(look, f"{session} {turn_id} in line")


async def test_a_dropped_parked_turn_lets_the_others_go(
    strict_stack: LocalStack, api: Api, publisher: Publisher, session_id: str
) -> None:
    await publisher.publish(unusable(session_id, "bad"))
    await parked(api, session_id)
    await api.say(session_id, "t2", "second")
    await accepted(api, session_id, "t2")
    page = await api.session(session_id)
    assert (page["status"], page["open_turn"]) == ("idle", None)
    assert (await api.turn(session_id, "t2"))["status"] == "accepted"

    code, out = await turnstile(strict_stack, "dead", "drop", "--session", session_id)
    assert (code, out.splitlines()[-1]) == (0, "dropped: 1")
    assert (await api.ended(session_id, "t2"))["status"] == "completed"
    provider = Provider(strict_stack.simulator)
    assert (await provider.only(ACME, session_id)).prompts == ["second"]


async def test_a_redriven_parked_turn_goes_first_once_it_is_understood(
    strict_stack: LocalStack, api: Api, publisher: Publisher, session_id: str
) -> None:
    await publisher.publish(unusable(session_id, "bad"))
    await parked(api, session_id)
    await api.say(session_id, "t2", "second")
    await accepted(api, session_id, "t2")

    code, out = await turnstile(strict_stack, "dead", "redrive", "--session", session_id)
    assert (code, out.splitlines()[-1]) == (0, "redriven: 1")

    async def again() -> bool:  # nobody understands it any better: it is a dead letter once more
        _, listed = await turnstile(strict_stack, "dead", "list", "--session", session_id)
        return session_id[:40] in listed

    await eventually(again, f"{session_id} dead again")
    assert (await api.turn(session_id, "t2"))["status"] == "accepted"

    await publisher.publish(turn(ACME, session_id, "bad", content="first"))
    assert (await api.ended(session_id, "t2"))["status"] == "completed"
    provider = Provider(strict_stack.simulator)
    assert (await provider.only(ACME, session_id)).prompts == ["first", "second"]
    types = [event["type"] for event in await api.events(session_id)]
    assert types.count("session.parked") == 1
