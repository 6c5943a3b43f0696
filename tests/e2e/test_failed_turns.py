"""A turn that failed for good stays failed; an operator finds what was asked for and has it asked again."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from tests.e2e.api import Api
from tests.e2e.provider import Provider
from tests.e2e.tenants import ACME
from tests.e2e.test_audit import turnstile
from tests.e2e.waiting import eventually
from tests.stack import LocalStack

pytestmark = pytest.mark.e2e


async def test_a_failed_turn_is_a_dead_letter_that_goes_again_as_another_turn(
    local_stack: LocalStack, api: Api, provider: Provider, session_id: str
) -> None:
    await api.open(session_id)
    await api.say(session_id, "t1", "first")
    assert (await api.ended(session_id, "t1"))["status"] == "completed"
    session = await provider.prompted(ACME, session_id)
    refused = {"method": "POST", "path": f"/{session}/events$", "times": 1}
    await provider.fault(refused, {"kind": "respond", "status": 400})
    await api.say(session_id, "t2", "second")
    page = await api.ended(session_id, "t2")
    assert (page["status"], page["error"]["type"]) == ("failed", "invalid_request_error")

    of_it = ("--session", session_id, "--reason", "turn_failed")

    async def listed() -> list[dict[str, object]] | None:
        code, out = await turnstile(local_stack, "dead", "list", *of_it, "--json")
        assert code == 0, out
        return [json.loads(line) for line in out.splitlines() if line.startswith("{")] or None

    (letter,) = await eventually(listed, f"a dead letter of {session_id}")
    assert "invalid_request_error" in str(letter["detail"])
    code, out = await turnstile(local_stack, "dead", "redrive", *of_it)
    assert (code, out.splitlines()[-1]) == (0, "redriven: 1")

    again = f"t2:again-{letter['partition']}-{letter['offset']}"

    async def known() -> bool:
        answer = await api.http.get(f"/v1/sessions/{session_id}/turns/{again}")
        return answer.status_code == 200

    await eventually(known, f"{again} asked")
    assert (await api.ended(session_id, again))["status"] == "completed"
    assert (await provider.only(ACME, session_id)).prompts == ["first", "second"]
    assert (await api.turn(session_id, "t2"))["status"] == "failed"
    assert await listed() is None


async def took(api: Api, session_id: str) -> float:
    """Seconds from the acceptance of the session's only turn to its failure, by the worker's clock: how long a busy
    machine takes to show it is not asked."""
    at = {e["type"]: datetime.fromisoformat(e["at"]) for e in await api.events(session_id)}
    return (at["turn.failed"] - at["turn.accepted"]).total_seconds()


@pytest.mark.parametrize(
    ("asked", "reason", "named"),
    [
        ({"agent": "agent_nope"}, "agent_not_found", "agent_nope"),
        ({"vault_ids": ["vlt_nope"]}, "vault_not_found", "vlt_nope"),
    ],
)
async def test_what_is_not_there_fails_its_turn_within_two_seconds_and_with_one_create(
    api: Api,
    provider: Provider,
    session_id: str,
    asked: dict[str, object],
    reason: str,
    named: str,
) -> None:
    await api.open(session_id, **asked)
    before = await provider.creates()
    await api.say(session_id, "t1", "hello")
    page = await api.ended(session_id, "t1")
    assert await took(api, session_id) < 2
    assert (page["status"], page["error"]["type"]) == ("failed", reason)
    assert named in page["error"]["message"]
    assert len(await provider.creates() - before) == 1


async def test_content_that_is_refused_fails_its_turn_and_the_next_one_goes_on(
    api: Api, provider: Provider, session_id: str
) -> None:
    await api.open(session_id)
    image = {"type": "image", "source": {"type": "file", "file_id": "file_nope"}}
    await api.say(session_id, "t1", [{"type": "text", "text": "look"}, image])
    page = await api.ended(session_id, "t1")
    assert await took(api, session_id) < 2
    assert (page["status"], page["error"]["type"]) == ("failed", "not_found_error")
    assert "file_nope" in page["error"]["message"]
    await api.say(session_id, "t2", "hello")
    assert (await api.ended(session_id, "t2"))["status"] == "completed"
    assert (await provider.only(ACME, session_id)).prompts == ["hello"]
