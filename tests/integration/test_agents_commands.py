"""`turnstile agents` as an operator runs it: a simulator, a database, a folder, and exit codes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner, Result

from infra.postgres.migrate import migrate_async
from infra.simulator.server import running
from infra.simulator.settings import Settings
from services.operator.main import build
from shared.settings import ProviderSettings
from tests.integration.agents_folder import FILES, write

pytestmark = pytest.mark.integration
KEY = "sk-ant-canary-9f2d"


@pytest.fixture
async def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    """A folder, with the simulator and the database that the commands use."""
    url = f"sqlite+aiosqlite:///{tmp_path}/operator.db"
    await migrate_async(url)
    write(tmp_path / "team")
    monkeypatch.setenv("TURNSTILE_DATABASE_URL", url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    async with running(Settings(port=0)) as provider:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", provider)
        yield tmp_path / "team"


async def without_models() -> None:
    """The provider answers as a server that has no list of models."""
    rule = {"match": {"path": "/v1/models"}, "fault": {"kind": "respond", "status": 404}}
    where = ProviderSettings().anthropic_base_url or ""
    async with httpx2.AsyncClient(base_url=where) as client:
        assert (await client.post("/_sim/faults", json={"rules": [rule]})).status_code == 200


async def agents(*arguments: object) -> Result:
    """In a thread: the command has an event loop of its own."""
    words = ["agents", *map(str, arguments)]
    done = await asyncio.to_thread(CliRunner().invoke, build(), words)
    assert KEY not in done.output
    return done


async def released() -> dict[str, Any]:
    found = json.loads((await agents("list", "--json")).output)["agents"]
    return {one["name"]: one for one in found}


def say(folder: Path, text: str) -> None:
    write(folder, {"agents/support.md": FILES["agents/support.md"] + text + "\n"})


async def test_the_way_of_a_change_from_a_file_to_a_rollback(folder: Path) -> None:
    planned = await agents("plan", folder)
    assert planned.exit_code == 1, planned.output
    assert "4 of 4 to apply" in planned.output
    applied = await agents("apply", folder, "--canary", 20)
    assert applied.exit_code == 0, applied.output
    assert "support: sessions get version 1" in applied.output
    assert (await agents("plan", folder)).exit_code == 0
    assert (await agents("diff", folder)).output.strip() == "no difference"
    say(folder, "Answer in French.")
    differing = await agents("diff", folder)
    assert differing.exit_code == 1
    assert "+Answer in French." in differing.output
    assert "-You answer" not in differing.output
    canary = await agents("apply", folder, "--canary", 20)
    assert "version 1, and version 2 for 20 % of sessions" in canary.output
    assert (await agents("diff", folder)).exit_code == 1  # against what is pinned
    assert (await agents("rollback", "support")).output.strip() == "support: version 1"
    again = await agents("apply", folder)
    assert "version 1; 2 is not used" in again.output
    assert (await agents("pin", "support", 2)).output.strip() == "support: version 2"
    assert (await agents("diff", folder)).exit_code == 0
    assert (await agents("rollback", "support")).exit_code == 0
    found = (await released())["support"]
    assert (found["pinned"], found["why"]) == (1, "rolled back by hand")


async def test_what_can_not_be_is_said_with_the_fix(folder: Path) -> None:
    unknown = await agents("pin", "nobody", 2)
    assert unknown.exit_code == 1
    assert "agents list" in unknown.output
    await agents("apply", folder)
    missing = await agents("pin", "support", 9)
    assert missing.exit_code == 1
    assert "version" in missing.output
    assert (await released())["support"]["pinned"] == 1
    write(folder, {"agents/support.md": "---\nname: S\ntool: []\n---\n"})
    wrong = await agents("plan", folder)
    assert wrong.exit_code == 2
    assert "./agents/support.md:3: tool: is no field here" in wrong.output
    assert (await agents("plan", folder / "nowhere")).exit_code == 2


async def test_a_tenants_agent_is_bound_to_it_and_no_other_tenant_takes_it(folder: Path) -> None:
    applied = await agents("apply", folder, "--tenant", "acme")
    assert applied.exit_code == 0, applied.output
    found = (await released())["support"]
    assert found["tenant_id"] == "acme"
    other = await agents("apply", folder, "--tenant", "globex", "--force")
    assert other.exit_code == 1
    assert "is tenant acme's: say --tenant acme" in other.output
    assert (await agents("apply", folder)).exit_code == 1
    assert set(await released()) == {"support", "coder", "plain"}


async def test_without_a_key_or_a_provider_it_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    away = await agents("plan", folder)
    assert away.exit_code == 2
    assert "listing agents" in away.output
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    assert "set ANTHROPIC_API_KEY" in (await agents("plan", folder)).output


async def test_models_that_go_are_named_with_who_uses_them_and_the_days_left(folder: Path) -> None:
    assert (await agents("radar")).exit_code == 0
    old = "---\nname: Old\nmodel: {}\n---\nBe old.\n"
    write(folder, {"agents/plain.md": old.format("claude-sonnet-4-5")})
    await agents("apply", folder)
    write(folder, {"agents/plain.md": old.format("claude-opus-4-5")})
    await agents("apply", folder, "--canary", 10)
    found = await agents("radar")
    assert found.exit_code == 1, found.output
    gone, going = found.output.splitlines()[1:]
    assert gone.startswith("claude-sonnet-4-5  retired 2026-11-30")  # what most sessions get
    assert "deprecated; retires 2027-01-22" in going
    assert "Old agent_" in going
    told = json.loads((await agents("radar", "--json")).output)["models"]
    assert [one["lifecycle"] for one in told] == ["retired", "deprecated"]


async def test_a_server_without_a_list_of_models_is_said_not_crashed(folder: Path) -> None:
    await without_models()
    found = await agents("radar")
    assert found.exit_code == 2
    assert "no list of models" in found.output
