"""Agents as code on the whole stack: a session by name, a gate that lets one version through and not the next."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from tests.e2e.conversing import converse
from tests.e2e.tenants import ACME
from tests.e2e.world import World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
AGENT = "---\nname: Care\nmodel: {model}\n---\n{prompt}\n"
TEXTS = ["Good morning. [[script: reply]]", "Look it up. [[script: tools rounds=2 calls=2]]"]


def write(folder: Path, model: str, prompt: str) -> None:
    (folder / "agents").mkdir(exist_ok=True)
    (folder / "agents/care.md").write_text(AGENT.format(model=model, prompt=prompt))


async def agents(world: World, *arguments: str) -> tuple[int, str]:
    """Exit code and all that was said."""
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("turnstile")), "agents", *arguments),
        env={
            **os.environ,
            "TURNSTILE_CLICKHOUSE_URL": world.stack.clickhouse_url,
            "TURNSTILE_KAFKA_BOOTSTRAP": world.stack.kafka,
            "TURNSTILE_DATABASE_URL": world.stack.database_url,
            "ANTHROPIC_BASE_URL": world.stack.simulator,
            "ANTHROPIC_API_KEY": "any",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 180)
    assert process.returncode is not None
    return process.returncode, said.decode()


async def version_of(world: World, session_id: str) -> int:
    """The agent's version that the archive knows for a session's turns."""
    version = "max(JSONExtractUInt(data, 'agent_version'))"
    return await world.archive.count(
        f"SELECT {version} FROM events WHERE type = 'turn.started' AND session_id = '{session_id}'"
    )


async def ran(world: World, session_id: str) -> int:
    """A conversation with the agent of that name, all of it archived; which version it ran on."""
    await world.api.open(session_id, agent="care")
    heard = await converse(world.api, session_id, TEXTS)
    await world.archive.complete(ACME, session_id, heard[-1].seq or 0)
    return await version_of(world, session_id)


async def test_a_session_runs_what_is_released_and_a_gate_keeps_a_dearer_version_back(
    world: World, session_id: str, tmp_path: Path
) -> None:
    folder = ("apply", str(tmp_path), "--tenant", ACME)
    write(tmp_path, "claude-sonnet-5-5", "Be kind.")
    code, said = await agents(world, *folder)
    assert code == 0, said
    assert await ran(world, f"{session_id}-1") == 1

    write(tmp_path, "claude-sonnet-5-5", "Be kind and brief.")
    code, said = await agents(world, *folder, "--gate", f"{session_id}-1")
    assert code == 0, said
    assert "care: 2 turns of 1 sessions end as they did" in said
    assert "care: sessions get version 2" in said
    assert await ran(world, f"{session_id}-2") == 2

    write(tmp_path, "claude-opus-5-5", "Be kind and brief.")
    code, said = await agents(world, *folder, "--gate", f"{session_id}-1")
    assert code == 1, said
    assert "the gate of care is not passed: the turns cost" in said
    assert "Version 3 is made and no session gets it" in said
    (care,) = (await world.api.get("/v1/agents"))["data"]
    assert (care["name"], care["version"], care["shared"]) == ("care", 2, False)
    assert await ran(world, f"{session_id}-3") == 2

    code, said = await agents(world, "rollback", "care", "--tenant", ACME)
    assert (code, said.strip()) == (0, "care: version 1")
    assert await ran(world, f"{session_id}-4") == 1
    code, said = await agents(world, "list", "--json")
    assert [one["pinned"] for one in json.loads(said)["agents"]] == [1]
