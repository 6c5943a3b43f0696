"""A session's budget: reached, raised over HTTP and over Kafka, and the same turn goes on, sent once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from infra.clients.gateway import Json
from infra.simulator import reply_to
from tests.e2e.api import Api
from tests.e2e.provider import Provider
from tests.e2e.publishing import Publisher, publishing, record
from tests.e2e.tenants import ACME
from tests.e2e.waiting import eventually
from tests.stack import LocalStack

pytestmark = pytest.mark.e2e
DEAR = "Think hard. [[script: budget rounds=2 cents=40]]"


@pytest.fixture(scope="module")
async def publisher(local_stack: LocalStack) -> AsyncIterator[Publisher]:
    async with publishing(local_stack.kafka) as publisher:
        yield publisher


async def _paused(api: Api, session_id: str) -> Json:
    """A session whose turn has used the budget up; what it waits for."""
    await api.open(session_id, budget_usd=0.3)
    await api.say(session_id, "t1", DEAR)
    await api.turn_in(session_id, "t1", "requires_action")
    page = await api.session(session_id)
    (action,) = page["pending_actions"]
    assert (page["status"], action["kind"], action["name"]) == (
        "requires_action",
        "budget",
        "budget_usd",
    )
    assert action["input"]["budget_usd"] == 0.3
    assert action["input"]["cost_usd"] >= 0.3
    found: Json = action
    return found


async def _raise(api: Api, session_id: str, budget_usd: Any) -> Any:
    path = f"/v1/sessions/{session_id}/budget"
    return await api.http.put(path, json={"budget_usd": budget_usd})


async def _went_on(api: Api, provider: Provider, session_id: str, budget_usd: float) -> None:
    page = await api.turn_in(session_id, "t1", "completed")
    assert page["reply"] == reply_to(DEAR)
    settled = await api.settled(session_id)
    assert (settled["budget_usd"], settled["pending_actions"]) == (budget_usd, [])
    assert (await provider.only(ACME, session_id)).prompts == [DEAR], "sent once"


async def test_a_budget_that_was_raised_lets_the_same_turn_go_on(
    api: Api, provider: Provider, session_id: str
) -> None:
    await _paused(api, session_id)
    below = await _raise(api, session_id, 0.2)
    assert (below.status_code, below.json()["type"]) == (
        409,
        "urn:turnstile:problem:budget_not_raised",
    )
    assert (await _raise(api, session_id, "much")).status_code == 400
    assert (await _raise(api, session_id, 20)).status_code == 202
    await _went_on(api, provider, session_id, 20.0)


async def test_it_is_raised_over_kafka_too(
    api: Api, provider: Provider, publisher: Publisher, session_id: str
) -> None:
    await _paused(api, session_id)
    await publisher.publish(record("budget.raised", ACME, session_id, budget_usd=20.0))
    await _went_on(api, provider, session_id, 20.0)


async def test_an_interrupt_ends_what_waits_and_the_next_turn_waits_for_the_budget_too(
    api: Api, session_id: str
) -> None:
    await _paused(api, session_id)
    await api.post(f"/v1/sessions/{session_id}/interrupt", {})
    await api.turn_in(session_id, "t1", "interrupted")
    await api.say(session_id, "t2", "And now?")
    await api.turn_in(session_id, "t2", "requires_action")
    assert (await _raise(api, session_id, 20)).status_code == 202
    await api.turn_in(session_id, "t2", "completed")


async def test_a_session_without_a_budget_says_that_none_can_be_added(
    api: Api, session_id: str
) -> None:
    await api.open(session_id)
    await api.say(session_id, "t1", "Hello.")
    await api.turn_in(session_id, "t1", "completed")
    assert (await _raise(api, session_id, 20)).status_code == 202

    async def refused() -> Json | None:
        events = await api.events(session_id)
        found = [e["data"] for e in events if e["type"] == "session.answer_refused"]
        return found[0] if found else None

    said = await eventually(refused, "the refusal is said")
    assert (said["input_type"], said["reason"]) == ("budget.raised", "budget_create_only")
