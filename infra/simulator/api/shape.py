"""Agents and environments as the API returns them: defaults filled in, references resolved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from infra.simulator.api.resources import (
    CustomTool,
    DefaultConfig,
    McpServer,
    McpToolset,
    ModelConfig,
    Policy,
    Toolset,
)
from infra.simulator.errors import bad, missing
from infra.simulator.world import JSON, Agent

MAX_METADATA = 16
MAX_ROSTER = 20


def model_json(model: str | ModelConfig) -> JSON:
    """A model as the API shows it. Raises ApiError 400 for an id that is no Claude model."""
    config = ModelConfig(id=model) if isinstance(model, str) else model
    if not config.id.startswith("claude-"):
        raise bad(f"model: unknown model {config.id!r}")
    effort: JSON | None = None
    if config.effort is not None:
        level = config.effort if isinstance(config.effort, str) else config.effort.type
        effort = {"type": level}
    return {
        "id": config.id,
        "effort": effort,
        "inference_geo": config.inference_geo,
        "speed": config.speed or "standard",
    }


def tools_json(
    tools: Sequence[Toolset | McpToolset | CustomTool], servers: Sequence[McpServer | JSON]
) -> list[JSON]:
    """Tools with every default written out. Raises ApiError 400 where servers do not match."""
    names = [s["name"] if isinstance(s, dict) else s.name for s in servers]
    if len(set(names)) != len(names):
        raise bad("mcp_servers: names must be unique")
    used = {tool.mcp_server_name for tool in tools if isinstance(tool, McpToolset)}
    if unknown := used - set(names):
        raise bad(f"tools: no mcp server named {sorted(unknown)[0]!r}")
    if idle := set(names) - used:
        raise bad(f"mcp_servers: {sorted(idle)[0]!r} is not used by an mcp_toolset")
    return [_tool_json(tool) for tool in tools]


def _tool_json(tool: Toolset | McpToolset | CustomTool) -> JSON:
    if isinstance(tool, CustomTool):
        if tool.input_schema.get("type") != "object":
            raise bad("tools: input_schema.type must be 'object'")
        custom: JSON = msgspec.to_builtins(tool)
        return custom
    default = _default_json(tool.default_config)
    configs = [
        {
            "name": config.name,
            **({"type": config.name} if isinstance(tool, Toolset) else {}),
            "enabled": default["enabled"] if config.enabled is None else config.enabled,
            "permission_policy": _policy_json(config.permission_policy)
            or default["permission_policy"],
        }
        for config in tool.configs
    ]
    if isinstance(tool, McpToolset):
        return {
            "type": "mcp_toolset",
            "mcp_server_name": tool.mcp_server_name,
            "configs": configs,
            "default_config": default,
        }
    return {"type": "agent_toolset_20260401", "configs": configs, "default_config": default}


def _default_json(config: DefaultConfig | None) -> JSON:
    config = config or DefaultConfig()
    return {
        "enabled": True if config.enabled is None else config.enabled,
        "permission_policy": _policy_json(config.permission_policy) or {"type": "always_allow"},
    }


def _policy_json(policy: Policy | None) -> JSON | None:
    return None if policy is None else dict(msgspec.to_builtins(policy))


def metadata_patched(old: Mapping[str, str], patch: Mapping[str, str | None]) -> dict[str, str]:
    """Metadata after a patch: a string sets a key, null removes it. Raises ApiError 400 beyond 16."""
    merged = {**old, **patch}
    kept = {key: value for key, value in merged.items() if value is not None}
    if len(kept) > MAX_METADATA:
        raise bad(f"metadata: at most {MAX_METADATA} pairs")
    return kept


def roster(agents: Mapping[str, Agent], asked: Any, own_id: str, own_version: int) -> JSON | None:
    """The agents a coordinator may call, as references. Raises ApiError 400 or 404."""
    if asked is None:
        return None
    if asked.get("type") != "coordinator" or not isinstance(asked.get("agents"), list):
        raise bad("multiagent: the simulator knows {'type': 'coordinator', 'agents': [...]}")
    if set(asked) != {"type", "agents"} or len(asked["agents"]) > MAX_ROSTER:
        raise bad(f"multiagent: only type and agents, at most {MAX_ROSTER} agents")
    entries = [_roster_entry(agents, entry, own_id, own_version) for entry in asked["agents"]]
    return {"type": "coordinator", "agents": entries}


def _roster_entry(agents: Mapping[str, Agent], entry: Any, own_id: str, own_version: int) -> JSON:
    if isinstance(entry, str):
        entry = {"type": "agent", "id": entry}
    if not isinstance(entry, dict) or entry.get("type") not in ("agent", "self"):
        raise bad("multiagent.agents: entries are agent ids, agent references or {'type': 'self'}")
    if entry["type"] == "self":
        return {"type": "agent", "id": own_id, "version": own_version}
    agent = agents.get(str(entry.get("id")))
    if agent is None:
        raise missing("agent", str(entry.get("id")))
    version = entry.get("version")
    if version is not None and not isinstance(version, int):
        raise bad("multiagent.agents.version: must be a whole number")
    return {"type": "agent", "id": agent.id, "version": agent.at(version)["version"]}
