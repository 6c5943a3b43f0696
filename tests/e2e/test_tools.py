"""Tools that ask, and answers by HTTP and by Kafka: each question is answered once, however often it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from infra.clients.gateway import Json
from infra.simulator import reply_to
from tests.e2e.api import ALREADY, Api
from tests.e2e.archive import Archive
from tests.e2e.provider import Log, Provider
from tests.e2e.publishing import Dead, Publisher, dead_letters, publishing, record
from tests.e2e.recorded import assert_recorded, turn_rows
from tests.e2e.tenants import ACME
from tests.e2e.waiting import eventually
from tests.stack import LocalStack

pytestmark = pytest.mark.e2e
CONFIRMED, RESULT = "user.tool_confirmation", "user.custom_tool_result"


@pytest.fixture(scope="module")
async def publisher(local_stack: LocalStack) -> AsyncIterator[Publisher]:
    async with publishing(local_stack.kafka) as publisher:
        yield publisher


async def _asked(api: Api, session_id: str, script: str) -> tuple[str, list[Json]]:
    """A turn that waits for answers: its text, and what it waits for."""
    text = f"Do it, but ask. [[script: {script}]]"
    await api.open(session_id)
    await api.say(session_id, "t1", text)
    await api.turn_in(session_id, "t1", "requires_action")
    page = await api.session(session_id)
    assert (page["status"], page["open_turn"]) == ("requires_action", "t1")
    return text, page["pending_actions"]


async def _completed(api: Api, session_id: str, text: str) -> None:
    page = await api.turn_in(session_id, "t1", "completed")
    assert page["reply"] == reply_to(text)
    assert (await api.settled(session_id))["pending_actions"] == []


def _given(log: Log, kind: str) -> list[Json]:
    """What the provider took of that kind, in order."""
    return [given for given in log.inputs if given["type"] == kind]


@pytest.mark.parametrize(
    ("script", "name"),
    [("unfamiliar", "browser"), ("confirm bare=1", "bash"), ("confirm bare=2", "bash")],
)
async def test_a_call_that_nobody_knows_is_asked_for_and_answered(
    api: Api, provider: Provider, session_id: str, script: str, name: str
) -> None:
    """Its type is unfamiliar, or it does not say that it asks: the idle that names it does."""
    text, (action,) = await _asked(api, session_id, script)
    assert (action["kind"], action["name"]) == ("confirmation", name)
    assert action["input"]
    answer = {"tool_use_id": action["tool_use_id"], "result": "deny"}
    await api.post(f"/v1/sessions/{session_id}/tool_confirmations", answer)
    await _completed(api, session_id, text)
    (given,) = _given(await provider.only(ACME, session_id), CONFIRMED)
    assert (given["tool_use_id"], given["result"]) == (action["tool_use_id"], "deny")


async def test_calls_are_allowed_and_denied_one_by_one(
    api: Api, archive: Archive, provider: Provider, session_id: str
) -> None:
    text, (first, second) = await _asked(api, session_id, "confirm calls=2")
    for action in (first, second):
        assert (action["kind"], action["name"]) == ("confirmation", "bash")
        assert action["input"]["command"].startswith("make step-")
        assert action["since"].endswith("Z")
    base = f"/v1/sessions/{session_id}/tool_confirmations"
    await api.post(base, {"tool_use_id": first["tool_use_id"], "result": "allow"})

    async def one_left() -> bool:
        return bool((await api.session(session_id))["pending_actions"] == [second])

    await eventually(one_left, "the second question alone is left")
    no = {"tool_use_id": second["tool_use_id"], "result": "deny", "deny_message": "not on Fridays"}
    await api.post(base, no)
    await _completed(api, session_id, text)
    log = await provider.only(ACME, session_id)
    confirmed = [(one["tool_use_id"], one["result"]) for one in _given(log, CONFIRMED)]
    assert confirmed == [(first["tool_use_id"], "allow"), (second["tool_use_id"], "deny")]
    rows = await archive.complete(ACME, session_id, (await api.session(session_id))["last_seq"])
    assert_recorded(rows, log)
    results = {r.body["tool_use_id"]: r.body for r in rows if r.type == "agent.tool_result"}
    assert not results[first["tool_use_id"]]["is_error"]
    assert results[second["tool_use_id"]]["is_error"]
    assert "not on Fridays" in str(results[second["tool_use_id"]]["content"])
    types = turn_rows(rows, "t1")
    assert types[:3] == ["turn.accepted", "turn.started", "turn.requires_action"]
    assert types[-1] == "turn.completed"


async def test_a_custom_tool_is_answered_by_http_and_by_a_record(
    api: Api, provider: Provider, publisher: Publisher, session_id: str
) -> None:
    text, [first] = await _asked(api, session_id, "custom_tool rounds=2")
    assert (first["kind"], first["name"]) == ("custom_tool", "lookup")
    blocks = [{"type": "text", "text": "Parcel 4711: at the door."}]
    answer = {"custom_tool_use_id": first["tool_use_id"], "content": blocks}
    await api.post(f"/v1/sessions/{session_id}/tool_results", answer)

    async def asked_again() -> Json | None:
        pending = (await api.session(session_id))["pending_actions"]
        return pending[0] if pending and pending != [first] else None

    second = await eventually(asked_again, "the second question")
    failed = {"custom_tool_use_id": second["tool_use_id"], "content": "no such parcel"}
    await publisher.publish(record("tool.answered", ACME, session_id, **failed, is_error=True))
    await _completed(api, session_id, text)
    one, other = _given(await provider.only(ACME, session_id), RESULT)
    assert (one["custom_tool_use_id"], one["content"]) == (first["tool_use_id"], blocks)
    assert (other["custom_tool_use_id"], other["is_error"]) == (second["tool_use_id"], True)
    assert other["content"] == [{"type": "text", "text": "no such parcel"}]


async def test_a_confirmation_comes_as_a_record_too(
    api: Api, provider: Provider, publisher: Publisher, session_id: str
) -> None:
    text, [action] = await _asked(api, session_id, "confirm")
    allowed = {"tool_use_id": action["tool_use_id"], "result": "allow"}
    await publisher.publish(record("tool.confirmed", ACME, session_id, **allowed))
    await _completed(api, session_id, text)
    assert len(_given(await provider.only(ACME, session_id), CONFIRMED)) == 1


@pytest.mark.parametrize("script", ["confirm", "custom_tool"])
async def test_answers_at_the_same_time_are_one_answer(
    api: Api, archive: Archive, provider: Provider, session_id: str, script: str
) -> None:
    text, [action] = await _asked(api, session_id, script)
    answers = await asyncio.gather(*(_answer(api, session_id, action) for _ in range(5)))
    assert any(answer.status_code == 202 for answer in answers)
    assert all(answer.status_code == 202 or ALREADY in answer.text for answer in answers)
    await _completed(api, session_id, text)
    log = await provider.only(ACME, session_id)
    assert len(_given(log, CONFIRMED) + _given(log, RESULT)) == 1
    rows = await archive.complete(ACME, session_id, (await api.session(session_id))["last_seq"])
    assert_recorded(rows, log)


async def test_an_answer_after_the_answer_is_refused_and_the_same_one_again_is_not(
    api: Api, provider: Provider, session_id: str
) -> None:
    text, [action] = await _asked(api, session_id, "custom_tool")
    for _ in range(2):  # the same call made again: nothing happens twice
        await _answered(api, session_id, action, {"Idempotency-Key": "answer-1"})
    await _completed(api, session_id, text)
    await _answered(api, session_id, action, {"Idempotency-Key": "answer-1"})
    body = {"custom_tool_use_id": action["tool_use_id"], "content": "here you are"}
    late = await api.http.post(f"/v1/sessions/{session_id}/tool_results", json=body)
    assert (late.status_code, late.json()["type"]) == (409, ALREADY)
    assert action["tool_use_id"] in late.json()["detail"]
    assert len(_given(await provider.only(ACME, session_id), RESULT)) == 1
    await api.say(session_id, "t2", "and now?")
    assert (await api.turn_in(session_id, "t2", "completed"))["reply"] == reply_to("and now?")
    types = {event["type"] for event in await api.events(session_id)}
    # The repeats went to the log and count for nothing.
    assert "session.answer_refused" not in types


async def test_a_session_archived_while_an_approval_is_under_way_stays_archived(
    api: Api, session_id: str
) -> None:
    _, [action] = await _asked(api, session_id, "confirm")
    await asyncio.gather(
        _answer(api, session_id, action), api.post(f"/v1/sessions/{session_id}/archive", {})
    )
    await api.ended(session_id, "t1")
    page = await api.session(session_id)
    assert page == await api.session(session_id, at_seq=page["last_seq"])
    assert (page["status"], page["open_turn"], page["pending_actions"]) == ("archived", None, [])
    listed = (await api.get("/v1/sessions?status=archived&limit=200"))["data"]
    assert session_id in [one["session_id"] for one in listed]
    late = await _answer(api, session_id, action)
    assert (late.status_code, late.json()["type"].rpartition(":")[2]) == (409, "session_archived")


async def test_what_became_of_a_late_answer_on_the_log_is_an_event_and_a_dead_letter(
    local_stack: LocalStack, api: Api, provider: Provider, publisher: Publisher, session_id: str
) -> None:
    text, [action] = await _asked(api, session_id, "custom_tool")
    await _answered(api, session_id, action)
    await _completed(api, session_id, text)
    late = {"custom_tool_use_id": action["tool_use_id"], "content": "again"}
    await publisher.publish(record("tool.answered", ACME, session_id, **late))

    async def look() -> list[Dead] | None:
        found = await dead_letters(local_stack.kafka)
        return [dead for dead in found if dead.key == session_id.encode()] or None

    [dead] = await eventually(look, "the late answer among the dead letters")
    assert dead.marks["reason"] == "unknown_action"
    assert action["tool_use_id"] in dead.marks["detail"]
    events = await api.events(session_id)
    [refused] = [e["data"] for e in events if e["type"] == "session.answer_refused"]
    assert (refused["tool_use_id"], refused["input_type"]) == (
        action["tool_use_id"],
        "tool.answered",
    )
    assert len(_given(await provider.only(ACME, session_id), RESULT)) == 1


async def test_the_children_of_an_agent_ask_too(
    api: Api, archive: Archive, provider: Provider, session_id: str
) -> None:
    text, _ = await _asked(api, session_id, "threads children=2 ask=1")

    async def done() -> bool:
        page = await api.session(session_id)
        for action in page["pending_actions"]:
            await _answered(api, session_id, action, {"Idempotency-Key": action["tool_use_id"]})
        return bool((await api.turn(session_id, "t1"))["status"] == "completed")

    await eventually(done, "both children answered")
    await _completed(api, session_id, text)
    log = await provider.only(ACME, session_id)
    assert len(_given(log, RESULT)) == 2
    rows = await archive.complete(ACME, session_id, (await api.session(session_id))["last_seq"])
    assert_recorded(rows, log)


async def _answered(
    api: Api, session_id: str, action: Json, headers: dict[str, str] | None = None
) -> None:
    answer = await _answer(api, session_id, action, headers)
    assert answer.status_code == 202, answer.text


async def _answer(
    api: Api, session_id: str, action: Json, headers: dict[str, str] | None = None
) -> Any:
    path, body = "tool_confirmations", {"tool_use_id": action["tool_use_id"], "result": "allow"}
    if action["kind"] == "custom_tool":
        path = "tool_results"
        body = {"custom_tool_use_id": action["tool_use_id"], "content": "here you are"}
    return await api.http.post(f"/v1/sessions/{session_id}/{path}", json=body, headers=headers)
