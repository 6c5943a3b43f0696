"""One thread of a session: its log, its listeners, its state."""

from __future__ import annotations

from typing import Any

from infra.simulator import stamps
from infra.simulator.play.channel import Channel
from infra.simulator.play.log import EventLog
from infra.simulator.play.usage import Usage


class Thread:
    """The primary thread (no parent) or a child."""

    def __init__(
        self,
        ident: str,
        session_id: str,
        agent: dict[str, Any],
        created_at: int,
        parent: str | None,
    ) -> None:
        self.id = ident
        self.session_id = session_id
        self.agent = agent
        self.parent = parent
        self.created_at = self.updated_at = created_at
        self.archived_at: int | None = None
        self.run: str | None = None  # the workflow run it belongs to
        self.status = "idle"
        self.log = EventLog()
        self.channel = Channel()
        self.usage = Usage()

    @property
    def model(self) -> str:
        return str(self.agent["model"]["id"])

    @property
    def name(self) -> str:
        return str(self.agent["name"])

    def as_json(self) -> dict[str, Any]:
        """The thread as the API shows it."""
        seconds = (self.updated_at - self.created_at) / 1e6
        usage = self.usage.of_thread()
        return {
            "id": self.id,
            "type": "session_thread",
            "session_id": self.session_id,
            "parent_thread_id": self.parent,
            "status": self.status,
            "agent": self.agent,
            "usage": usage,
            "stats": {
                "active_seconds": usage["active_seconds"],
                "duration_seconds": round(seconds, 3),
                "startup_seconds": 0.0,
            },
            "workflow_run_id": self.run,
            "created_at": stamps.written(self.created_at),
            "updated_at": stamps.written(self.updated_at),
            "archived_at": None if self.archived_at is None else stamps.written(self.archived_at),
        }
