"""A turn that an MCP server keeps from going on: it waits until somebody connects the server, and is tried again.

The provider gives such a turn up, and tries the server again with the next message. What it says of a server while
the agent goes on without it changes nothing here. The credential itself is in a vault, which no session sees.
"""

from __future__ import annotations

from datetime import timedelta

import msgspec
from msgspec import Raw, Struct

from shared.moment import parse, rfc3339
from shared.session.decision import Draft
from shared.session.events import (
    PendingAction,
    SessionConnectionMade,
    TurnError,
    TurnRequiresAction,
)
from shared.session.provider import UNAUTHENTICATED
from shared.session.state import CLOSED, SessionState, Unconnected

# Why a turn fails that waited in vain, and why its session goes on in another provider session.
REQUIRED, RENEWED = "connection_required", "connection_renewed"


class _Shown(Struct, frozen=True):
    error: str


def is_refused(state: SessionState) -> bool:
    """Whether the attempt came to nothing because a server took no credential: trying again is of no use before
    somebody acts."""
    return any(one.error == UNAUTHENTICATED for one in _failed(state))


def was_renewed(state: SessionState) -> bool:
    """Whether a server fails that somebody has connected since this provider session began: perhaps by a vault that
    was made since, which only another provider session gets. A session that names its vaults never gets others."""
    known = state.progress.reconnected if state.progress else frozenset()
    return state.vault_ids is None and any(one.server in known for one in _failed(state))


def may_pause(state: SessionState) -> bool:
    """Whether the attempt that failed may wait for servers to be connected."""
    overdue = state.progress is not None and state.progress.overdue
    return bool(_failed(state)) and not overdue and state.status not in CLOSED


def _failed(state: SessionState) -> tuple[Unconnected, ...]:
    return state.progress.unconnected if state.progress else ()


def pause(draft: Draft, *, at: str) -> None:
    """Have the open turn wait for the servers that failed."""
    failed = _failed(draft.state)
    actions = tuple(
        PendingAction(
            tool_use_id=one.error_id,
            kind="connection",
            name=one.server,
            input=Raw(msgspec.json.encode(_Shown(error=one.error))),
            since=at,
        )
        for one in failed
    )
    answer_by = None
    if draft.policy.answer_within is not None:
        answer_by = rfc3339(parse(at) + timedelta(seconds=draft.policy.answer_within))
    extra = {"pending_actions": actions, "answer_by": answer_by}
    draft.turn("turn.requires_action", at=at, shape=TurnRequiresAction, extra=extra)


def asked_by(state: SessionState, tool_use_id: str) -> PendingAction | None:
    """The pending action of this id, if it is a connection."""
    waiting = (one for one in state.connection_pauses if one.tool_use_id == tool_use_id)
    return next(waiting, None)


def made(draft: Draft, action: PendingAction, *, at: str) -> bool:
    """Record that the server was connected; returns whether the open turn is to be tried again."""
    data = SessionConnectionMade(tool_use_id=action.tool_use_id, server=action.name)
    draft.own("session.connection_made", data, at=at)
    return not draft.state.connection_pauses


def leave(draft: Draft, *, at: str, words: str) -> None:
    """Fail the turn: `words` say why nobody connected the server."""
    servers = ", ".join(action.name for action in draft.state.connection_pauses)
    error = TurnError(
        type=REQUIRED, message=f"the agent can't use the MCP server {servers}: {words}"
    )
    draft.end("turn.failed", at=at, stop_reason=REQUIRED, error=error)
