"""The options of a run."""

from __future__ import annotations

from dataclasses import dataclass

from infra.local.part import Say
from tests.chaos.schedule import PARTS


@dataclass(frozen=True, slots=True)
class Options:
    """`duration`: seconds under load; `sessions`: conversations that never pause; `workers`: agent-workers;
    `parts`: those that are struck; `troubled`: the provider misbehaves."""

    seed: int
    duration: float
    sessions: int
    workers: int
    say: Say
    parts: tuple[str, ...] = PARTS
    troubled: bool = True
