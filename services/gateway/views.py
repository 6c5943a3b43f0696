"""A session and a turn as a client sees them; also what the read model keeps, as JSON.

Both are functions of what the core knows: `session_view` of a folded state, `turn_view` of a turn. Times are RFC
3339 in UTC with six digits, costs are US dollars, tokens are counted as the provider does.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from shared.moment import parse, rfc3339
from shared.session.events import Evaluation, PendingAction, Turn, TurnError, TurnStatus, Usage
from shared.session.inputs import SessionRequested, TurnRequested
from shared.session.resources import Resource
from shared.session.state import Length, PublicStatus, SessionState

Closing = Literal["archive", "erase"]


class SessionView(Struct, frozen=True, kw_only=True):
    """A session as it stands. `last_seq` is the number of its newest event known here, 0 before the first. One that
    is archived and `resumable` was left alone for long, or has its result: it takes turns, and goes on with
    them."""

    session_id: str
    tenant_id: str
    user_id: str
    status: PublicStatus
    title: str | None = None
    metadata: dict[str, str] | None = None
    agent: str | None = None
    mode: str = "interactive"
    budget_usd: float | None = None
    vault_ids: list[str] | None = None
    resources: tuple[Resource, ...] = ()
    created_at: str
    last_seq: int = 0
    open_turn: str | None = None
    pending_actions: tuple[PendingAction, ...] = ()
    usage: Usage = Usage()
    cost_usd: float = 0.0
    billed_usd: float = 0.0
    resumable: bool = False

    @property
    def closed(self) -> bool:
        """Whether it takes no more turns."""
        return self.status == "erased" or (self.status == "archived" and not self.resumable)


class ProfileView(Struct, frozen=True, kw_only=True):
    """What is kept of a user; `updated_at` is null where nothing ever was, or is not any more."""

    user_id: str
    preferences: dict[str, str | bool | int | float] = {}
    facts: list[str] = []
    updated_at: str | None = None


class SettledCall(Struct, frozen=True, kw_only=True):
    """A tool call that waited for an answer and never will again: somebody gave it, or what asked is gone."""

    tool_use_id: str
    end: Literal["answered", "withdrawn"]
    at: str


class SessionList(Struct, frozen=True, kw_only=True):
    """Sessions, newest first; `next_cursor` leads on to older ones, null at the end."""

    data: list[SessionView]
    next_cursor: str | None


class SessionPage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A session's row, but for the state that it was made of. `closing` is what was asked for it, `erased_at` when
    it was erased, as `session.erased` says.

    `settled` are the newest tool calls that wait no more, SETTLED at most, the newest last.
    """

    view: SessionView
    closing: Closing | None = None
    erased_at: str | None = None
    settled: tuple[SettledCall, ...] = ()


# How many calls that wait no more a page remembers: far more than an agent asks at once.
SETTLED = 32


class Accepted(Struct, frozen=True, kw_only=True):
    """What was asked of a session is safe on the log; the session decides what becomes of it."""

    session_id: str
    status: Literal["accepted"] = "accepted"


class AcceptedTurn(Struct, frozen=True, kw_only=True):
    """The turn is safe on the log."""

    turn_id: str
    session_id: str
    status: Literal["accepted"] = "accepted"


class TurnView(Struct, frozen=True, kw_only=True, gc=False):
    """A turn as it stands; `trace_id` is 32 hex digits, or empty when it was not traced. `partial_text`: what text
    had come of a turn that was interrupted, refused or failed, beyond its `reply`: of the message in the making,
    else the last finished one. `evaluations`: what the provider's grader said of the outcome that was asked for.
    `resources`: what it was given, from `turn.accepted` on: those of its session, and without a `mount_path` the
    files that it names itself."""

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
    first_output_at: str | None = None
    ended_at: str | None = None
    attempts: int = 0
    tool_calls: int = 0
    stop_reason: str | None = None
    deadline_at: str | None = None
    partial_text: str | None = None
    evaluations: tuple[Evaluation, ...] = ()
    resources: tuple[Resource, ...] = ()
    trace_id: str = ""


def session_view(state: SessionState, created_at: str) -> SessionView:
    """The session as `state` tells it; `created_at` counts for one whose opening the state does not know."""
    return SessionView(
        session_id=state.session_id,
        tenant_id=state.tenant_id,
        user_id=state.user_id,
        status=state.public_status,
        title=state.title,
        metadata=state.metadata,
        agent=state.agent,
        mode=state.mode,
        budget_usd=state.budget_usd,
        vault_ids=state.vault_ids,
        resources=state.resources,
        created_at=state.opened_at or created_at,
        last_seq=state.last_seq,
        open_turn=None if state.status == "erased" else state.open_turn,
        pending_actions=state.pending,
        usage=state.usage,
        cost_usd=state.cost_usd,
        billed_usd=state.billed_usd,
        resumable=state.status == "dormant",
    )


def turn_view(session_id: str, turn: Turn, trace_id: str) -> TurnView:
    """The turn as it stands; its reply is none while it may still change."""
    return TurnView(
        turn_id=turn.turn_id,
        session_id=session_id,
        user_id=turn.user_id,
        status=turn.status,
        reply=turn.reply if turn.status in ("completed", "interrupted") else None,
        usage=turn.usage,
        cost_usd=turn.cost_usd,
        error=turn.error,
        submitted_at=turn.submitted_at,
        started_at=turn.started_at,
        first_token_at=turn.first_token_at,
        first_output_at=turn.first_output_at,
        ended_at=turn.ended_at,
        attempts=turn.attempts,
        tool_calls=turn.tool_calls,
        stop_reason=turn.stop_reason,
        deadline_at=turn.deadline_at or None,
        partial_text=_partial_text(turn),
        evaluations=turn.evaluations or (),
        resources=turn.resources or (),
        trace_id=trace_id,
    )


def _partial_text(turn: Turn) -> str | None:
    if turn.partial_text:
        return turn.partial_text
    return turn.reply if turn.status in ("failed", "refused") else None


def kept(state: SessionState) -> SessionState:
    """`state` without what only whoever drives the session needs: to know events again, to find what was sent, to
    end a turn with its reply. What is left folds to the same views, and does not grow with the session's age."""
    turn = replace(state.turn, reply=None) if state.turn and state.turn.reply else state.turn
    return replace(
        state,
        turn=turn,
        rotated_from=None,
        rest=None,
        retired=None,
        length=Length(),
        given_up=(),
        prompts=(),
        tail=(),
        threads={},
        unsettled=(),
    )


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


def opened(request: SessionRequested | TurnRequested) -> SessionPage:
    """The row of a session that was just asked for, or that a turn opens."""
    if isinstance(request, TurnRequested):
        view = SessionView(
            session_id=request.session_id,
            tenant_id=request.tenant_id,
            user_id=request.user_id,
            status="idle",
            agent=request.agent,
            mode=request.mode,
            created_at=request.at,
        )
        return SessionPage(view=view)
    view = SessionView(
        session_id=request.session_id,
        tenant_id=request.tenant_id,
        user_id=request.user_id,
        status="idle",
        title=request.title,
        metadata=request.metadata,
        agent=request.agent,
        mode=request.mode,
        budget_usd=request.budget_usd,
        vault_ids=request.vault_ids,
        resources=tuple(request.resources or ()),
        created_at=request.at,
    )
    return SessionPage(view=view)


def accepted_turn(request: TurnRequested, trace_id: str) -> TurnView:
    """The row of a turn that was just asked for."""
    return TurnView(
        turn_id=request.turn_id,
        session_id=request.session_id,
        user_id=request.user_id,
        status="accepted",
        submitted_at=request.at,
        deadline_at=_deadline_at(request),
        trace_id=trace_id,
    )


def _deadline_at(request: TurnRequested) -> str | None:
    if request.deadline_seconds is None:
        return None
    return rfc3339(parse(request.at) + timedelta(seconds=request.deadline_seconds))
