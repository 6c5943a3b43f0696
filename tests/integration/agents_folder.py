"""A folder of three agents and an environment on a running simulator, for the tests of agents as code."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from anthropic import AsyncAnthropic

from infra.simulator.server import running
from infra.simulator.settings import Settings
from services.operator.agents.apply import Apply, Writer
from services.operator.agents.declared import Declared
from services.operator.agents.folder import declared
from services.operator.agents.lock import NAME, Lock
from services.operator.agents.plan import Remote, Step, Wishes, steps
from services.operator.agents.provider import Provider

MODEL = "claude-sonnet-5-5"
FILES = {
    "agents/support.md": """---
name: Support
model: claude-sonnet-5-5
description: Answers customers.
tools:
  - type: agent_toolset_20260401
    default_config:
      permission_policy: {type: always_ask}
metadata: {team: care}
---
You answer customers, briefly.
""",
    "agents/coder.md": """---
name: Coder
model: {id: claude-opus-5-5, effort: high}
mcp_servers:
  - {type: url, name: github, url: "https://mcp.example.com/github"}
tools:
  - {type: mcp_toolset, mcp_server_name: github}
---
You write code.
""",
    "agents/plain.md": "---\nname: Plain\n---\n",
    "environments/work.yaml": "name: work\nconfig:\n  type: cloud\n  packages: {pip: [pandas]}\n",
}


def write(folder: Path, files: dict[str, str] = FILES) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    """The room's own provider, through the SDK, on a simulator of its own."""
    async with (
        running(Settings(port=0, status_lag_seconds=0.0)) as url,
        AsyncAnthropic(base_url=url, api_key="key", max_retries=0, timeout=30) as client,
    ):
        yield Provider(client)


class Desk:
    """One person's copy of the folder. `told` is what was applied, in order, as (name, version)."""

    def __init__(self, folder: Path, there: Writer, base_url: str, tenant: str = "") -> None:
        self.folder = folder
        self.there = there
        self.base_url = base_url
        self.tenant = tenant
        self.told: list[tuple[str, int]] = []

    @property
    def lock(self) -> Lock:
        return Lock(self.folder / NAME, self.base_url)

    async def plan(self, **wishes: bool) -> list[Step]:
        files = declared(self.folder, MODEL)
        remote = await self.there.everything()
        return steps(files, self.lock.entries, remote, Wishes(self.tenant, **wishes))

    async def apply(self, planned: Sequence[Step] | None = None, **wishes: bool) -> None:
        planned = planned if planned is not None else await self.plan(**wishes)
        await Apply(self.there, self.lock, self.tenant, self._applied).run(planned)

    async def _applied(self, one: Declared, found: Remote) -> None:
        self.told.append((one.name, found.version))


def actions(planned: Sequence[Step]) -> dict[str, str]:
    return {step.declared.name: step.action for step in planned}
