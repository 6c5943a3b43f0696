"""Agents, environments and sessions as clients send them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

from infra.simulator.content import Ident, Strict, Text, UserDefineOutcome, UserMessage

Name = Annotated[str, Meta(min_length=1, max_length=256)]
MetaKey = Annotated[str, Meta(min_length=1, max_length=64)]
MetaValue = Annotated[str, Meta(max_length=512)]
Metadata = Annotated[dict[MetaKey, MetaValue], Meta(max_length=16)]
MetadataPatch = dict[MetaKey, MetaValue | None]
System = Annotated[str, Meta(max_length=100_000)]


class AlwaysAllow(Strict, tag="always_allow"):
    pass


class AlwaysAsk(Strict, tag="always_ask"):
    pass


class AutoPolicy(Strict, tag="auto"):
    pass


Policy = AlwaysAllow | AlwaysAsk | AutoPolicy
BuiltIn = Literal["bash", "edit", "read", "write", "glob", "grep", "web_fetch", "web_search"]


class DefaultConfig(Strict):
    enabled: bool | None = None
    permission_policy: Policy | None = None


class BuiltInConfig(Strict):
    name: BuiltIn
    type: BuiltIn | None = None
    enabled: bool | None = None
    permission_policy: Policy | None = None


class McpToolConfig(Strict):
    name: Name
    enabled: bool | None = None
    permission_policy: Policy | None = None


class Toolset(Strict, tag="agent_toolset_20260401"):
    configs: list[BuiltInConfig] = field(default_factory=list)
    default_config: DefaultConfig | None = None


class McpToolset(Strict, tag="mcp_toolset"):
    mcp_server_name: Name
    configs: list[McpToolConfig] = field(default_factory=list)
    default_config: DefaultConfig | None = None


class CustomTool(Strict, tag="custom"):
    name: Name
    description: Text
    input_schema: dict[str, Any]


Tools = Annotated[list[Toolset | McpToolset | CustomTool], Meta(max_length=256)]


class McpServer(Strict, tag="url"):
    name: Name
    url: Text


McpServers = Annotated[list[McpServer], Meta(max_length=20)]


class Skill(Strict):
    type: Literal["anthropic", "custom"]
    skill_id: Ident
    version: str | None = None


Skills = Annotated[list[Skill], Meta(max_length=20)]


class Effort(Strict):
    type: Literal["low", "medium", "high", "xhigh", "max"]


class ModelConfig(Strict):
    id: Name
    effort: Effort | Literal["low", "medium", "high", "xhigh", "max"] | None = None
    inference_geo: str | None = None
    speed: Literal["standard", "fast"] | None = None


Model = Name | ModelConfig


class CreateAgent(Strict):
    model: Model
    name: Name
    description: str | None = None
    execution_identity: dict[str, Any] | None = None
    mcp_servers: McpServers = field(default_factory=list)
    metadata: Metadata = field(default_factory=dict)
    multiagent: dict[str, Any] | None = None
    skills: Skills = field(default_factory=list)
    system: System | None = None
    tools: Tools = field(default_factory=list)


class UpdateAgent(Strict):
    version: Annotated[int, Meta(ge=1)] | UnsetType = UNSET
    model: Model | UnsetType = UNSET
    name: Name | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    execution_identity: dict[str, Any] | UnsetType | None = UNSET
    mcp_servers: McpServers | UnsetType | None = UNSET
    metadata: MetadataPatch | UnsetType | None = UNSET
    multiagent: dict[str, Any] | UnsetType | None = UNSET
    skills: Skills | UnsetType | None = UNSET
    system: System | UnsetType | None = UNSET
    tools: Tools | UnsetType | None = UNSET


class AgentRef(Strict, tag="agent"):
    id: Ident
    version: Annotated[int, Meta(ge=1)] | None = None


class AgentWithOverrides(Strict, tag="agent_with_overrides"):
    id: Ident
    version: Annotated[int, Meta(ge=1)] | None = None
    model: Model | UnsetType = UNSET
    system: System | UnsetType | None = UNSET
    tools: Tools | UnsetType = UNSET
    mcp_servers: McpServers | UnsetType = UNSET
    skills: Skills | UnsetType = UNSET


class Unrestricted(Strict, tag="unrestricted"):
    pass


class Limited(Strict, tag="limited"):
    allowed_hosts: list[str] | None = None
    allow_mcp_servers: bool | None = None
    allow_package_managers: bool | None = None


class Packages(Strict):
    type: Literal["packages"] = "packages"
    apt: list[str] | None = None
    cargo: list[str] | None = None
    gem: list[str] | None = None
    go: list[str] | None = None
    npm: list[str] | None = None
    pip: list[str] | None = None


class Cloud(Strict, tag="cloud"):
    networking: Unrestricted | Limited | None = None
    packages: Packages | None = None


class SelfHosted(Strict, tag="self_hosted"):
    pass


class CreateEnvironment(Strict):
    name: Name
    config: Cloud | SelfHosted | None = None
    description: str | None = None
    metadata: Metadata = field(default_factory=dict)
    scope: Literal["organization", "account"] | None = None


class UpdateEnvironment(Strict):
    name: Name | UnsetType = UNSET
    config: Cloud | SelfHosted | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    metadata: MetadataPatch | UnsetType = UNSET
    scope: Literal["organization", "account"] | UnsetType | None = UNSET


class Money(Strict):
    amount: Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,11}$")]  # whole cents, as a string
    currency: Literal["USD"]


class Budget(Strict, tag="limit"):
    max_list_cost: Money


class FileResource(Strict, tag="file"):
    file_id: Ident
    mount_path: str | None = None


class BranchCheckout(Strict, tag="branch"):
    name: Text


class CommitCheckout(Strict, tag="commit"):
    sha: Annotated[str, Meta(pattern="^[0-9a-fA-F]{40}")]


class GitHubResource(Strict, tag="github_repository"):
    url: Annotated[str, Meta(pattern="^https://[^/@]+/[^/]+/[^/?#]+")]
    authorization_token: str | None = None
    checkout: BranchCheckout | CommitCheckout | None = None
    mount_path: str | None = None


class MemoryResource(Strict, tag="memory_store"):
    memory_store_id: Ident
    access: Literal["read_write", "read_only"] | None = None
    instructions: Annotated[str, Meta(max_length=4096)] | None = None


class CreateSession(Strict):
    agent: Ident | AgentRef | AgentWithOverrides
    environment_id: Ident
    budget: Budget | UnsetType = UNSET
    initial_events: Annotated[list[UserMessage | UserDefineOutcome], Meta(max_length=50)] = field(
        default_factory=list
    )
    metadata: Metadata = field(default_factory=dict)
    resources: Annotated[
        list[FileResource | GitHubResource | MemoryResource], Meta(max_length=1000)
    ] = field(default_factory=list)
    title: Annotated[str, Meta(max_length=1024)] | None = None
    vault_ids: list[Ident] = field(default_factory=list)


class SessionAgentPatch(Strict):
    tools: Tools | UnsetType = UNSET
    mcp_servers: McpServers | UnsetType = UNSET


class UpdateSession(Strict):
    agent: SessionAgentPatch | UnsetType = UNSET
    budget: Budget | UnsetType | None = UNSET
    metadata: MetadataPatch | UnsetType | None = UNSET
    title: Annotated[str, Meta(max_length=1024)] | UnsetType | None = UNSET
    vault_ids: list[Ident] | UnsetType = UNSET


CREATE_AGENT = msgspec.json.Decoder(CreateAgent)
UPDATE_AGENT = msgspec.json.Decoder(UpdateAgent)
CREATE_ENVIRONMENT = msgspec.json.Decoder(CreateEnvironment)
UPDATE_ENVIRONMENT = msgspec.json.Decoder(UpdateEnvironment)
CREATE_SESSION = msgspec.json.Decoder(CreateSession)
UPDATE_SESSION = msgspec.json.Decoder(UpdateSession)
