"""What the agent-worker is set to, beyond the shared blocks."""

from __future__ import annotations

import os
import socket
import uuid

from pydantic import Field

from services.agent_worker.governor.settings import RateSettings
from shared.settings import (
    Block,
    DatabaseSettings,
    HealthSettings,
    ProcessSettings,
    ProviderSettings,
    TenantSettings,
)


class WorkerSettings(Block):
    """`TURNSTILE_*` variables of the agent-worker; times in seconds.

    `concurrency`: sessions one process drives at once. `lease_seconds`: how long a dead worker's sessions wait for
    the next one; a live one extends its leases three times in that. `poll_seconds`: how late another process's
    news may be noticed. `linger_seconds`: how long an idle session keeps its stream. `drain_seconds`: how long a
    stopping worker may finish what it is asking of the provider. `dead_ratio`: which share of the gateway's
    latest `dead_window` inputs may be unusable before nothing more is taken in for `dead_pause_seconds`; 1: all.
    `coalesce_seconds`: how long a turn that may be coalesced waits for company. `answer_seconds`: what waits for
    people longer is denied; 0 waits for ever. `silence_seconds`: an agent that runs and says nothing for longer has
    stalled; while a call of its is open, it has once that took longer than `tool_call_seconds`. Every
    `orphan_sweep_seconds` (0: never) one worker archives provider sessions older than `orphan_age_seconds` that a
    crash left behind.
    `park_sessions`: while a turn of a session is a dead letter, its later turns wait.
    `tools`: places of custom tools that the worker runs itself, `package.module:name`, comma-separated;
    `tool_timeout_seconds` is for one call, `tool_concurrency` how many run at once.
    """

    concurrency: int = Field(default=2_000, ge=1, le=20_000)
    lease_seconds: float = Field(default=3.0, ge=0.5, le=300)
    poll_seconds: float = Field(default=0.2, ge=0.01, le=5)
    linger_seconds: float = Field(default=5.0, ge=0, le=3600)
    drain_seconds: float = Field(default=10.0, ge=0, le=300)
    coalesce_seconds: float = Field(default=0.3, ge=0, le=60)
    answer_seconds: float = Field(default=24 * 3600.0, ge=0)
    silence_seconds: float = Field(default=900.0, ge=1)
    tool_call_seconds: float = Field(default=7200.0, ge=1)
    dead_ratio: float = Field(default=0.5, gt=0, le=1)
    dead_window: int = Field(default=1_000, ge=2, le=1_000_000)
    dead_pause_seconds: float = Field(default=15.0, gt=0, le=3_600)
    park_sessions: bool = False
    orphan_sweep_seconds: float = Field(default=600.0, ge=0, le=86_400)
    orphan_age_seconds: float = Field(default=1_800.0, ge=0, le=604_800)
    tools: str = ""
    tool_timeout_seconds: float = Field(default=60.0, gt=0, le=3600)
    tool_concurrency: int = Field(default=32, ge=1, le=1_000)


class Settings(ProcessSettings):
    """The blocks the agent-worker takes. `instance` owns leases, so that no two processes ever share it."""

    database: DatabaseSettings
    provider: ProviderSettings
    health: HealthSettings
    tenants: TenantSettings
    worker: WorkerSettings
    rate: RateSettings

    def __init__(self) -> None:
        super().__init__()
        self.instance = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
