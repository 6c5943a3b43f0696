"""A session that is busy: interrupted, talked into, archived and deleted while a turn runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from infra.clients.gateway import Json
from infra.simulator import reply_to
from tests.e2e.api import Api
from tests.e2e.archive import Archive
from tests.e2e.provider import Provider
from tests.e2e.publishing import Publisher, publishing, record, turn
from tests.e2e.recorded import assert_recorded, turn_rows
from tests.e2e.refused import assert_refused
from tests.e2e.tenants import ACME
from tests.stack import LocalStack

pytestmark = pytest.mark.e2e
HELD = "Take your time. [[script: tools rounds=2 calls=1 hold=1]]"
# What the contract allows an interrupt until its driver hears of it is 250 ms; the rest is for a busy machine.
SOON_S = 3.0
SLOW_S = 3.0


@pytest.fixture(scope="module")
async def publisher(local_stack: LocalStack) -> AsyncIterator[Publisher]:
    async with publishing(local_stack.kafka) as publisher:
        yield publisher


async def _busy(api: Api, provider: Provider, session_id: str) -> str:
    """A session whose turn `t1` is held by the provider; the provider session's id."""
    await api.open(session_id)
    await api.say(session_id, "t1", HELD)
    found = await provider.prompted(ACME, session_id)
    await api.turn_in(session_id, "t1", "running")
    return found


async def _received(provider: Provider, session: str) -> datetime:
    """When the provider took the first interrupt."""
    inputs = (await provider.log(session)).inputs
    at = next(given["received_at"] for given in inputs if given["type"] == "user.interrupt")
    return datetime.fromisoformat(at)


async def test_an_interrupt_reaches_the_provider_soon_and_ends_the_turn(
    api: Api, archive: Archive, provider: Provider, session_id: str
) -> None:
    session = await _busy(api, provider, session_id)
    asked = datetime.now(UTC)
    await api.post(f"/v1/sessions/{session_id}/interrupt", {})
    page = await api.turn_in(session_id, "t1", "interrupted")
    took = (await _received(provider, session) - asked).total_seconds()
    print(f"\ninterrupt: {took * 1000:.0f} ms from the client to the provider")
    assert took < SOON_S
    assert (page["error"], page["attempts"]) == (None, 1)
    rows = await archive.complete(ACME, session_id, (await api.settled(session_id))["last_seq"])
    assert turn_rows(rows, "t1") == ["turn.accepted", "turn.started", "turn.interrupted"]
    assert_recorded(rows, await provider.log(session))


async def test_an_interrupt_leaves_the_turns_that_wait(
    api: Api, provider: Provider, publisher: Publisher, session_id: str
) -> None:
    await _busy(api, provider, session_id)
    await api.say(session_id, "t2", "and then")
    await publisher.publish(record("interrupt.requested", ACME, session_id))
    await api.turn_in(session_id, "t1", "interrupted")
    assert (await api.turn_in(session_id, "t2", "completed"))["reply"] == reply_to("and then")
    assert (await provider.only(ACME, session_id)).prompts == [HELD, "and then"]


async def test_an_interrupt_ends_a_turn_that_waits_for_an_answer(
    api: Api, provider: Provider, session_id: str
) -> None:
    await api.open(session_id)
    await api.say(session_id, "t1", "May I? [[script: confirm]]")
    await api.turn_in(session_id, "t1", "requires_action")
    await api.post(f"/v1/sessions/{session_id}/interrupt", {})
    await api.turn_in(session_id, "t1", "interrupted")
    assert (await api.settled(session_id))["pending_actions"] == []
    await api.say(session_id, "t2", "never mind")
    assert (await api.turn_in(session_id, "t2", "completed"))["reply"] == reply_to("never mind")


async def test_an_interrupt_of_nothing_harms_nothing(
    api: Api, provider: Provider, session_id: str
) -> None:
    await api.open(session_id)
    await api.post(f"/v1/sessions/{session_id}/interrupt", {})
    for number in (1, 2):
        await api.say(session_id, f"t{number}", f"number {number}")
        await api.turn_in(session_id, f"t{number}", "completed")
        await api.post(f"/v1/sessions/{session_id}/interrupt", {})
    assert (await provider.only(ACME, session_id)).prompts == ["number 1", "number 2"]


async def test_a_busy_session_is_talked_into_in_three_ways(
    api: Api, provider: Provider, session_id: str
) -> None:
    await _busy(api, provider, session_id)
    await api.say(session_id, "waits", "when you can", on_busy="enqueue")
    await api.say(session_id, "only-if-free", "not now", on_busy="reject")
    refused = await api.turn_in(session_id, "only-if-free", "refused")
    assert refused["error"]["type"] == "session_busy"
    assert (await api.turn(session_id, "waits"))["status"] == "accepted"
    await api.say(session_id, "urgent", "now!", on_busy="interrupt")
    await api.turn_in(session_id, "t1", "interrupted")
    for turn_id, text in (("waits", "when you can"), ("urgent", "now!")):
        assert (await api.turn_in(session_id, turn_id, "completed"))["reply"] == reply_to(text)
    assert (await provider.only(ACME, session_id)).prompts == [HELD, "when you can", "now!"]


async def test_interrupting_turns_reach_the_agent_in_the_order_of_their_acceptance(
    api: Api, provider: Provider, session_id: str
) -> None:
    """Although the first one's interrupt takes its time at the provider."""
    await _busy(api, provider, session_id)
    slow = {"body": "user.interrupt", "session": {"turnstile": f"{ACME}/{session_id}"}, "times": 1}
    await provider.fault(slow, {"kind": "delay", "seconds": SLOW_S})
    for number in (2, 3, 4):
        await api.say(session_id, f"t{number}", f"no, {number}", on_busy="interrupt")
    for number in (2, 3, 4):
        page = await api.turn_in(session_id, f"t{number}", "completed")
        assert page["reply"] == reply_to(f"no, {number}")
    assert (await api.turn(session_id, "t1"))["status"] == "interrupted"
    assert (await provider.only(ACME, session_id)).prompts == [HELD, "no, 2", "no, 3", "no, 4"]


async def test_a_free_session_takes_a_turn_that_would_be_rejected(
    api: Api, session_id: str
) -> None:
    await api.open(session_id)
    for number in range(3):
        await api.say(session_id, f"t{number}", f"number {number}", on_busy="reject")
        await api.turn_in(session_id, f"t{number}", "completed")


async def _closed(
    api: Api, publisher: Publisher, session_id: str, status: str
) -> tuple[Json, Json]:
    """A turn by HTTP and one by Kafka for a session that is closed; its page, and the second turn's."""
    answer = await api.http.post(f"/v1/sessions/{session_id}/turns", json={"content": "hello?"})
    assert_refused(answer, 409, f"session_{status}")
    await publisher.publish(turn(ACME, session_id, "late", "hello?"))
    late = await api.turn_in(session_id, "late", "refused")
    assert late["error"]["type"] == f"session_{status}"
    return await api.session(session_id), late


async def test_an_archived_session_ends_its_turn_and_takes_no_more(
    api: Api, archive: Archive, provider: Provider, publisher: Publisher, session_id: str
) -> None:
    session = await _busy(api, provider, session_id)
    await api.say(session_id, "t2", "still waiting")
    await api.post(f"/v1/sessions/{session_id}/archive", {})
    await api.turn_in(session_id, "t1", "interrupted")
    waiting = await api.turn_in(session_id, "t2", "refused")
    assert waiting["error"]["type"] == "session_archived"
    page, _ = await _closed(api, publisher, session_id, "archived")
    assert (page["status"], page["open_turn"]) == ("archived", None)
    # What was said stays, here and in the archive.
    seqs = [event["seq"] for event in await api.events(session_id)]
    rows = await archive.complete(ACME, session_id, seqs[-1])
    assert (
        seqs == [row.seq for row in rows][: len(seqs)]
    )  # the provider's goodbye may come meanwhile
    assert (await provider.log(session)).prompts == [HELD]
    again = await api.http.post("/v1/sessions", json={"session_id": session_id, "user_id": "u1"})
    assert (again.status_code, again.json()["status"]) == (200, "archived")


async def test_a_deleted_session_is_gone_at_the_provider_and_forgotten_here(
    api: Api, provider: Provider, publisher: Publisher, session_id: str
) -> None:
    session = await _busy(api, provider, session_id)
    answer = await api.http.delete(f"/v1/sessions/{session_id}")
    assert answer.status_code == 202, answer.text
    await provider.deleted(session)
    page, _ = await _closed(api, publisher, session_id, "erased")
    assert (page["status"], page["title"], page["open_turn"]) == ("erased", None, None)
    gone = await api.http.get(f"/v1/sessions/{session_id}/turns/t1")
    assert_refused(gone, 404, "unknown_turn")
