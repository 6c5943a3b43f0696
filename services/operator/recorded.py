"""What is one archived event?"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recorded:
    """One archived event; `at` is `YYYY-MM-DD hh:mm:ss.ffffff` in UTC, `data` its JSON as it came."""

    seq: int
    at: str
    type: str
    turn_id: str
    data: str
