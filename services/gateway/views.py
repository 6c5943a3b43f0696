"""A session and a turn as a client sees them; also what the read model keeps, as JSON.

Times are RFC 3339 in UTC with six digits, costs are US dollars, tokens are counted as the provider does.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from shared.session.events import PendingAction, TurnError, TurnStatus, Usage

SessionStatus = Literal["idle", "running", "requires_action", "archived", "erased"]
Closing = Literal["archive", "erase"]


class SessionView(Struct, frozen=True, kw_only=True):
    """A session as it stands. `last_seq` is the number of its newest event known here, 0 before the first."""

    session_id: str
    tenant_id: str
    user_id: str
    status: SessionStatus
    title: str | None = None
    metadata: dict[str, str] | None = None
    agent: str | None = None
    mode: str = "interactive"
    budget_usd: float | None = None
    vault_ids: list[str] | None = None
    created_at: str
    last_seq: int = 0
    open_turn: str | None = None
    pending_actions: tuple[PendingAction, ...] = ()
    usage: Usage = Usage()
    cost_usd: float = 0.0


class SessionPage(Struct, frozen=True, kw_only=True):
    """A session's row. `waiting` are turns behind the open one, `parked` those among them that are dead letters;
    `closing` is what was asked for it."""

    view: SessionView
    waiting: tuple[str, ...] = ()
    parked: tuple[str, ...] = ()
    closing: Closing | None = None
    # When it was erased, as `session.erased` says.
    erased_at: str | None = None


class TurnView(Struct, frozen=True, kw_only=True):
    """A turn as it stands; `trace_id` is 32 hex digits, or empty when it was not traced."""

    turn_id: str
    session_id: str
    user_id: str
    status: TurnStatus
    reply: str | None = None
    usage: Usage = Usage()
    cost_usd: float = 0.0
    error: TurnError | None = None
    submitted_at: str
    started_at: str | None = None
    first_token_at: str | None = None
    ended_at: str | None = None
    attempts: int = 0
    tool_calls: int = 0
    stop_reason: str | None = None
    trace_id: str = ""


_session = msgspec.json.Decoder(SessionPage)
_turn = msgspec.json.Decoder(TurnView)


def encode(value: Any) -> str:
    """A view or page as JSON text, the way a row keeps it."""
    return msgspec.json.encode(value).decode()


def read_session(text: str) -> SessionPage:
    """The session in a row. Raises msgspec.ValidationError when the row is of another version."""
    return _session.decode(text)


def read_turn(text: str) -> TurnView:
    """The turn in a row. Raises msgspec.ValidationError when the row is of another version."""
    return _turn.decode(text)
