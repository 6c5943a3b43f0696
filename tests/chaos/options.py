"""The options of a run."""

from __future__ import annotations

from dataclasses import dataclass

from infra.local.part import Say


@dataclass(frozen=True, slots=True)
class Options:
    """`duration`: seconds under load; `sessions`: conversations at once; `workers`: agent-worker processes."""

    seed: int
    duration: float
    sessions: int
    workers: int
    say: Say
