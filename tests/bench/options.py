"""The options of a leg, the same for all of them."""

from __future__ import annotations

from dataclasses import dataclass

from infra.local.part import Say
from tests.bench.profile import Profiler


@dataclass(frozen=True, slots=True)
class Options:
    """`seconds`: roughly how long one round of one side lasts; `rounds`: how many of each side, where
    somebody has asked for a number."""

    seconds: float
    rounds: int | None
    say: Say
    profiler: Profiler
