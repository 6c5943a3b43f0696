"""An agent file that refers to the agents it calls by path: made in order, changed with them, whatever
is killed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.operator.agents.lock import NAME
from services.operator.agents.plan import Remote
from services.operator.agents.provider import Provider
from tests.integration.agents_folder import FILES, Desk, actions, provider, write
from tests.integration.test_agents_as_code import change, dying

pytestmark = pytest.mark.integration
# By name it is before those it calls.
LEAD = """---
name: Lead
multiagent:
  type: coordinator
  agents: [./support.md, {type: agent, id: ./plain.md}]
---
You lead.
"""
CALLING = {
    "agents/support.md": FILES["agents/support.md"],
    "agents/plain.md": FILES["agents/plain.md"],
    "agents/a-lead.md": LEAD,
}


@pytest.fixture
async def there() -> AsyncIterator[Provider]:
    async with provider() as found:
        yield found


async def alive(desk: Desk) -> dict[str, Remote]:
    """What is there of the desk's tenant, by file; two of one file fail."""
    every = [
        one
        for one in await desk.there.everything()
        if one.metadata.get("turnstile_tenant") == desk.tenant and not one.archived
    ]
    found = {Path(one.metadata["turnstile_file"]).stem: one for one in every}
    assert len(found) == len(every)
    return found


def roster(one: Remote) -> list[tuple[str, int]]:
    agents: list[dict[str, Any]] = one.body["multiagent"]["agents"]
    return [(entry["id"], entry["version"]) for entry in agents]


async def test_who_is_called_is_made_first_and_a_change_of_one_is_one_of_the_caller(
    there: Provider, tmp_path: Path
) -> None:
    write(tmp_path, CALLING)
    desk = Desk(tmp_path, there, there.base_url, tenant="acme")
    await desk.apply()
    assert [name for name, _ in desk.told] == ["plain", "support", "a-lead"]
    found = await alive(desk)
    assert roster(found["a-lead"]) == [(found["support"].id, 1), (found["plain"].id, 1)]
    assert set(actions(await desk.plan()).values()) == {"unchanged"}

    change(desk)  # support.md
    planned = await desk.plan()
    assert actions(planned) == {"plain": "unchanged", "support": "update", "a-lead": "update"}
    assert planned[-1].changes == ("multiagent",)
    await desk.apply(planned)
    found = await alive(desk)
    assert roster(found["a-lead"]) == [(found["support"].id, 2), (found["plain"].id, 1)]
    assert found["a-lead"].version == 2
    assert set(actions(await desk.plan()).values()) == {"unchanged"}


async def test_killed_at_every_side_effect_and_run_again_it_calls_whom_it_should(
    there: Provider, tmp_path: Path
) -> None:
    effects = 0
    for landed in (False, True):
        at, count = 0, 0
        while at <= count:
            at += 1
            effects += 1
            tenant = f"{landed}{at}"
            folder = tmp_path / tenant
            write(
                folder, {k: v.replace("name: ", f"name: {tenant}", 1) for k, v in CALLING.items()}
            )
            desk = Desk(folder, there, there.base_url, tenant=tenant)
            count = await dying(desk, at, landed=landed)
            await desk.apply()
            change(desk)
            await dying(desk, at, landed=landed)
            await desk.apply()
            found = await alive(desk)
            versions = {name: one.version for name, one in found.items()}
            assert versions == {"plain": 1, "support": 2, "a-lead": 2}
            assert roster(found["a-lead"]) == [(found["support"].id, 2), (found["plain"].id, 1)]
            assert set(actions(await desk.plan()).values()) == {"unchanged"}
    assert effects > 18


async def test_a_skill_by_path_has_the_id_that_the_lock_knows(
    there: Provider, tmp_path: Path
) -> None:
    skilled = "---\nname: Skilled\nskills:\n- {type: custom, skill_id: ../skills/a}\n---\n"
    write(tmp_path, {"agents/skilled.md": skilled, "skills/a/SKILL.md": "---\nname: a\n---\n"})
    desk = Desk(tmp_path, there, there.base_url)
    (blocked,) = await desk.plan()
    assert (blocked.action, blocked.why) == (
        "blocked",
        "the lock does not have ./skills/a: `ant apply ./skills/a` first",
    )
    (tmp_path / NAME).write_text(json.dumps({"resources": {"./skills/a": {"id": "skill_01"}}}))
    (step,) = await desk.plan()
    assert step.action == "create"
    assert step.declared.body["skills"] == [{"type": "custom", "skill_id": "skill_01"}]
