"""What the agent-worker is set to, beyond the shared blocks."""

from __future__ import annotations

import os
import socket
import uuid
from typing import get_args

from pydantic import Field, field_validator

from services.agent_worker.governor.settings import RateSettings
from shared.ownership import Scope
from shared.session.lifetimes import Lifetimes
from shared.session.lifetimes import read as read_by_tenant
from shared.settings import (
    Block,
    DatabaseSettings,
    HealthSettings,
    OwnershipSettings,
    ProcessSettings,
    ProviderSettings,
    TenantSettings,
    listed,
    require_each,
)

# Ten years in seconds; and more tokens than a provider session can have.
LONGEST_REST, LONGEST_LIFE = 10 * 365 * 86_400.0, 1e12


class WorkerSettings(Block):
    """What an agent-worker drives, and how long it waits; times in seconds."""

    concurrency: int = Field(
        default=2_000, ge=1, le=20_000, description="sessions that one worker drives at once"
    )
    lease_seconds: float = Field(
        default=3.0,
        ge=0.5,
        le=300,
        description=(
            "how long a dead worker's sessions wait for another worker; a live one extends "
            "its leases three times in that"
        ),
    )
    poll_seconds: float = Field(
        default=0.2, ge=0.01, le=5, description="how late news of another process may be noticed"
    )
    linger_seconds: float = Field(
        default=5.0,
        ge=0,
        le=3600,
        description=(
            "how long an idle session keeps its stream, so that the next turn starts at once"
        ),
    )
    drain_seconds: float = Field(
        default=10.0,
        ge=0,
        le=300,
        description="how long a stopping worker may finish what it is asking of the provider",
    )
    coalesce_seconds: float = Field(
        default=0.3,
        ge=0,
        le=60,
        description="how long a turn with `on_busy: coalesce` waits for others to go out with it",
    )
    answer_seconds: float = Field(
        default=24 * 3600.0,
        ge=0,
        description=(
            "what nobody confirms or answers for that long is denied (`turn.unanswered`), "
            "never allowed; 0: never"
        ),
    )
    silence_seconds: float = Field(
        default=900.0,
        ge=1,
        description=(
            "an agent that runs and says nothing for that long is interrupted and told to "
            "go on (`turn.stalled`); after as long again the turn moves to another provider "
            "session"
        ),
    )
    tool_call_seconds: float = Field(
        default=7200.0,
        ge=1,
        description=(
            "while a call of the agent's is open (a build, a test suite), it is interrupted "
            "once the last one has taken that long; custom tools and approvals have waits "
            "of their own"
        ),
    )
    idle_seconds: str = Field(
        default="900",
        description=(
            "a session is idle when no turn came for that long (`session.idled`); by tenant and mode: "
            "`900, acme=300, acme/background=60`, see *Lifecycle*; 0: never"
        ),
    )
    archive_seconds: str = Field(
        default="3600",
        description=(
            "when no turn came for that long the provider session is archived; the next turn goes on in "
            "another one. By tenant and mode; 0: never"
        ),
    )
    prewarm_seconds: float = Field(
        default=300.0,
        gt=0,
        le=86_400,
        description=(
            "how long a provider session that was made before any turn (`prewarm`) waits for one; then it "
            "is archived, and a turn that comes later gets another one"
        ),
    )
    prewarm_max: int = Field(
        default=64,
        ge=0,
        le=100_000,
        description=(
            "how many such provider sessions one worker keeps; sessions beyond it open without one. "
            "0: none"
        ),
    )
    messages_agents: str = Field(
        default="",
        description=(
            "a folder of agents (`NAME.md`, `runtime: messages`) whose sessions run on the Messages API, see "
            "docs/messages.md; unset: none"
        ),
    )
    vault_policy: str = Field(
        default="project,tenant,user",
        description=(
            "which vaults a session has that names none, in order: those for the `project` of its metadata, those "
            "for all of the tenant, those for its user; unset: none. Of vaults made by `POST /v1/vaults`"
        ),
    )
    rotate_turns: str = Field(
        default="0",
        description=(
            "a provider session that had so many turns is exchanged when its session is at rest. By "
            "tenant and mode; 0: never"
        ),
    )
    rotate_tokens: str = Field(
        default="0",
        description=(
            "likewise after so many tokens, cached ones too. By tenant and mode; 0: never"
        ),
    )
    rotate_compactions: str = Field(
        default="0",
        description=(
            "likewise once its context was compacted so often. By tenant and mode; 0: never"
        ),
    )
    dead_ratio: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description=(
            "share of the gateway's latest inputs that may be unusable before intake "
            "pauses, see *Dead letters*; 1: all may"
        ),
    )
    dead_window: int = Field(
        default=1_000,
        ge=2,
        le=1_000_000,
        description="how many of the gateway's latest inputs that share is of",
    )
    dead_pause_seconds: float = Field(
        default=15.0,
        gt=0,
        le=3_600,
        description="how long intake pauses then before it tries again",
    )
    park_sessions: bool = Field(
        default=False,
        description=(
            "`1`: while a turn of a session is a dead letter, the session's later turns "
            "wait, see *Dead letters*"
        ),
    )
    orphan_sweep_seconds: float = Field(
        default=600.0,
        ge=0,
        le=86_400,
        description=(
            "how often one worker looks for provider sessions that a crash left behind, see "
            "*Orphans*; 0: never"
        ),
    )
    orphan_age_seconds: float = Field(
        default=1_800.0,
        ge=0,
        le=604_800,
        description="how old an orphan must be before it is archived",
    )
    prices: str = Field(
        default="",
        description=(
            "a file of list prices in place of the shipped `shared/prices.toml`: [money](money.md)"
        ),
    )
    turn_reserve_usd: float = Field(
        default=1.0,
        gt=0,
        le=10_000,
        description=(
            "what a turn under a cap reserves before it is sent, or as much as the dearest "
            "turn seen under that cap: [money](money.md)"
        ),
    )
    tools: str = Field(
        default="",
        description=(
            "places of custom tools that agent-workers run themselves, "
            "`package.module:name`, comma-separated: [tools](tools.md)"
        ),
    )
    tool_timeout_seconds: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        description="for one call of a custom tool; it waits no longer than that for a place, too",
    )
    tool_concurrency: int = Field(
        default=32,
        ge=1,
        le=1_000,
        description="calls of custom tools that run at once in one worker",
    )

    @field_validator("idle_seconds", "archive_seconds")
    @classmethod
    def _seconds_by_tenant(cls, value: str) -> str:
        read_by_tenant(value, most=LONGEST_REST)
        return value

    @field_validator("rotate_turns", "rotate_tokens", "rotate_compactions")
    @classmethod
    def _counts_by_tenant(cls, value: str) -> str:
        read_by_tenant(value, most=LONGEST_LIFE)
        return value

    @field_validator("vault_policy")
    @classmethod
    def _known_scopes(cls, value: str) -> str:
        return require_each(value, get_args(Scope))

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """The scopes of `vault_policy`, in order."""
        return tuple(
            scope for one in listed(self.vault_policy) for scope in get_args(Scope) if scope == one
        )

    @property
    def lifetimes(self) -> Lifetimes:
        """How long sessions rest, and how far their provider sessions come."""
        return Lifetimes(
            idle=read_by_tenant(self.idle_seconds, most=LONGEST_REST),
            archive=read_by_tenant(self.archive_seconds, most=LONGEST_REST),
            turns=read_by_tenant(self.rotate_turns, most=LONGEST_LIFE),
            tokens=read_by_tenant(self.rotate_tokens, most=LONGEST_LIFE),
            compactions=read_by_tenant(self.rotate_compactions, most=LONGEST_LIFE),
        )


class Settings(ProcessSettings):
    """The blocks the agent-worker takes. `instance` owns leases, so that no two processes ever share it."""

    database: DatabaseSettings
    provider: ProviderSettings
    health: HealthSettings
    ownership: OwnershipSettings
    tenants: TenantSettings
    worker: WorkerSettings
    rate: RateSettings

    def __init__(self) -> None:
        super().__init__()
        self.instance = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
