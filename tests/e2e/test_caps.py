"""Caps set by the operator: what was spent before counts, a refused turn names the cap, a higher one lets it go."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from infra.clients.gateway import Json
from tests.e2e.api import Api
from tests.e2e.provider import Provider
from tests.e2e.tenants import ACME
from tests.e2e.waiting import eventually
from tests.stack import LocalStack

pytestmark = pytest.mark.e2e
DEAR = "Think hard. [[script: budget rounds=1 cents=40]]"
_turns = count(1)


async def _caps(stack: LocalStack, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("turnstile")), "cost", "caps", *arguments),
        env={**os.environ, "TURNSTILE_DATABASE_URL": stack.database_url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60.0)
    assert process.returncode == 0, said.decode()
    return said.decode()


async def _ended(api: Api, session_id: str, status: str) -> Json:
    """A turn that ends so, of as many as it takes until every worker knows the caps."""

    async def once() -> Json | None:
        turn_id = f"c{next(_turns)}"
        await api.say(session_id, turn_id, "Hello.")
        page = await api.ended(session_id, turn_id)
        return page if page["status"] == status else None

    return await eventually(once, f"a turn is {status}")


async def test_a_cap_counts_what_was_spent_and_lets_turns_go_once_it_is_higher(
    api: Api, provider: Provider, local_stack: LocalStack, session_id: str
) -> None:
    user = f"user-{session_id}"[:100]
    whose = ("--tenant", ACME, "--user", user, "--month")
    await api.post("/v1/sessions", {"session_id": session_id, "user_id": user}, 201)
    await api.say(session_id, "t1", DEAR)
    assert (await api.ended(session_id, "t1"))["status"] == "completed"
    spent = (await api.settled(session_id))["cost_usd"]
    assert spent >= 0.4

    await _caps(local_stack, "set", "0.30", *whose)
    refused = await _ended(api, session_id, "refused")
    error: Any = refused["error"]
    assert error["type"] == "cap_reached"
    for words in ("$0.30 in this month", f"user {user} is reached", " spent, ", "it resets at 20"):
        assert words in error["message"]
    sent = len((await provider.only(ACME, session_id)).prompts)

    found = await _caps(local_stack, "list", "--tenant", ACME, "--json")
    (cap,) = (one for one in map(json.loads, found.splitlines()) if one["who"] == user)
    assert (cap["limit_usd"], cap["reserved_usd"]) == (0.3, 0.0)
    assert cap["spent_usd"] >= spent
    assert cap["resets_at"].endswith("-01T00:00:00Z")

    await _caps(local_stack, "set", "50", *whose)
    await _ended(api, session_id, "completed")
    assert len((await provider.only(ACME, session_id)).prompts) == sent + 1, "refused is not sent"
    await api.settled(session_id)
    kinds = [event["type"] for event in await api.events(session_id)]
    assert "turn.reserved" in kinds
    await _caps(local_stack, "remove", *whose)
    assert user not in await _caps(local_stack, "list")
