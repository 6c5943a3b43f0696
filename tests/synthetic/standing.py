"""The turn as a `turn.*` event carries it, kept while a session is being written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from shared.session.events import TurnStatus, Usage


@dataclass(slots=True)
class Standing:
    """The fields of `shared.session.events.Turn`; `fields` gives them to one of its kinds."""

    turn_id: str
    user_id: str
    trace_id: str
    submitted_at: str
    status: TurnStatus = "accepted"
    started_at: str | None = None
    first_token_at: str | None = None
    first_output_at: str | None = None
    ended_at: str | None = None
    attempts: int = 0
    usage: Usage = field(default_factory=Usage)
    cents_before: int = 0
    cost_usd: float = 0.0
    tool_calls: int = 0
    stop_reason: str | None = None
    error: Any = None
    reply: str | None = None

    def fields(self) -> dict[str, Any]:
        """Arguments of Turn."""
        return {name: getattr(self, name) for name in _FIELDS}


_FIELDS = (
    "turn_id", "user_id", "status", "submitted_at", "started_at", "first_token_at", "first_output_at",
    "ended_at", "attempts", "usage", "cost_usd", "tool_calls", "stop_reason", "error", "reply",
)  # fmt: skip
