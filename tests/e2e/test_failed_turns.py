"""A turn that failed for good stays failed; an operator finds what was asked for and has it asked again."""

from __future__ import annotations

import json

import pytest

from tests.e2e.api import Api
from tests.e2e.provider import Provider
from tests.e2e.tenants import ACME
from tests.e2e.test_audit import turnstile
from tests.e2e.waiting import eventually
from tests.stack import LocalStack

pytestmark = pytest.mark.e2e


async def test_it_is_a_dead_letter_that_goes_again_as_another_turn(
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
