"""A canary whose turns fail is rolled back by the stack itself: nobody starts anything, and nobody looks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.session.releases import Release, version_for
from tests.e2e.api import Api
from tests.e2e.archive import Archive
from tests.e2e.provider import Provider
from tests.e2e.tenants import ACME, KEYS
from tests.e2e.test_agents import agents, write
from tests.e2e.waiting import eventually
from tests.e2e.world import World
from tests.stack import running_stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
# So many turns of each version are needed, so that the test is short. As is the wait between two looks.
ENOUGH = 6


@pytest.fixture
async def watched() -> AsyncIterator[World]:
    """A stack as `make up` runs it, with its part `watcher`."""
    told = {
        "TURNSTILE_API_KEYS": f"{KEYS[ACME]}:{ACME}",
        "TURNSTILE_WATCHER": "1",
        "TURNSTILE_CANARY_EVERY": "1",
        "TURNSTILE_CANARY_MIN_TURNS": str(ENOUGH),
    }
    async with running_stack(**told) as stack:
        api = Api(stack.gateway, KEYS[ACME])
        yield World(stack, api, Archive(stack.clickhouse_url), Provider(stack.simulator))
        await api.http.aclose()


async def released(world: World) -> dict[str, Any]:
    code, said = await agents(world, "list", "--json")
    assert code == 0, said
    (found,) = json.loads(said)["agents"]
    return dict(found)


async def ran(world: World, session: str, text: str, status: str) -> None:
    await world.api.open(session, agent="care")
    await world.api.say(session, "t1", text)
    assert (await world.api.ended(session, "t1"))["status"] == status


async def test_errors_of_a_canary_roll_it_back_without_anybodys_hand(
    watched: World, tmp_path: Path
) -> None:
    for prompt, share in (("Be kind.", ()), ("Be curt.", ("--canary", "50"))):
        write(tmp_path, "claude-sonnet-5-5", prompt)
        code, said = await agents(watched, "apply", str(tmp_path), "--tenant", ACME, *share)
        assert code == 0, said
    now = await released(watched)
    assert (now["pinned"], now["canary"], now["share"]) == (1, 2, 50)
    release = Release(
        tenant_id=ACME, name="care", agent_id=now["agent_id"], pinned=1, canary=2, share=50
    )
    names = [f"canary-{number}" for number in range(40)]
    bad = [name for name in names if version_for(release, (ACME, name)) == 2]
    good = [name for name in names if name not in bad]
    for name in good[:ENOUGH]:
        await ran(watched, name, "[[script: reply]]", "completed")
    for name in bad[:ENOUGH]:
        await ran(watched, name, "[[script: refusal]]", "refused")

    async def ended() -> dict[str, Any] | None:
        now = await released(watched)
        return now if now["canary"] == 0 else None

    now = await eventually(ended, "the canary is rolled back")
    assert (now["pinned"], now["share"]) == (1, 0)
    assert "version 2 rolled back (errors): 100.0 % of turns fail" in str(now)
    # Whoever would have got the canary gets the version before.
    await ran(watched, bad[ENOUGH], "[[script: reply]]", "completed")
    assert await version(watched, bad[ENOUGH]) == 1
    assert await version(watched, bad[0]) == 2


async def version(world: World, session: str) -> int:
    last = (await world.api.settled(session))["last_seq"]
    await world.archive.complete(ACME, session, last)
    return await world.archive.count(
        "SELECT max(JSONExtractUInt(data, 'agent_version')) FROM events "
        f"WHERE type = 'turn.started' AND session_id = '{session}'"
    )
