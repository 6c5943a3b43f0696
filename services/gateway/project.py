"""What do records make of the read model? Pure: pages and turns in, changes out.

A `turn.*` event carries the turn as it stands, so it is copied; a session's few moving parts follow
the same rules as `shared.session.evolve`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from services.gateway.beginnings import accepted_turn, opened
from services.gateway.erased import erased, is_late, is_told
from services.gateway.ports import Changes, SessionKey, StoredTurn, TurnKey
from services.gateway.views import SessionPage, SessionView, TurnView
from shared.moment import normal
from shared.session import provider
from shared.session.events import (
    TURN_ENDS,
    Event,
    SessionIdled,
    SessionOpened,
    SessionParked,
    SessionUnparked,
    Turn,
    TurnAccepted,
    TurnRequiresAction,
)
from shared.session.inputs import (
    ArchiveRequested,
    EraseRequested,
    Request,
    SessionRequested,
    TurnRequested,
)

_ANSWERS = frozenset(
    {
        "user.tool_confirmation",
        "user.custom_tool_result",
        "user.tool_result",
        "agent.tool_result",
        "agent.mcp_tool_result",
    }
)


class Projection:
    """One batch at work: starts from stored rows, ends in `changes`."""

    def __init__(
        self, sessions: Mapping[SessionKey, SessionPage], turns: Mapping[TurnKey, StoredTurn]
    ) -> None:
        self._sessions = dict(sessions)
        self._turns = dict(turns)
        self.changes = Changes()

    def request(self, request: Request, trace_id: str) -> None:
        """Apply an input. The worker decides what becomes of it; here it only becomes visible."""
        key = (request.tenant_id, request.session_id)
        request = replace(request, at=normal(request.at))
        if is_late(self._sessions.get(key), request):
            return
        if isinstance(request, SessionRequested):
            self._open(key, opened(request))
        elif isinstance(request, TurnRequested):
            self._open(key, opened(_opening(request)))
            turn_key = (*key, request.turn_id)
            if turn_key not in self._turns:
                self._put_turn(turn_key, StoredTurn(accepted_turn(request, trace_id)))
        elif isinstance(request, ArchiveRequested | EraseRequested) and key in self._sessions:
            closing = "archive" if isinstance(request, ArchiveRequested) else "erase"
            self._put(key, replace(self._sessions[key], closing=closing))

    def event(self, event: Event) -> None:
        """Apply an event; one that is known already (by `seq`) changes nothing."""
        key = (event.tenant_id, event.session_id)
        page = self._sessions.get(key) or _unseen(event)
        if event.seq <= page.view.last_seq:
            return
        page = replace(page, view=replace(page.view, last_seq=event.seq))
        gone = page.view.status == "erased"
        if event.type.startswith("turn."):
            turn = msgspec.json.decode(event.data, type=Turn)
            if not gone or is_told(page, turn):
                self._put_turn((*key, turn.turn_id), StoredTurn(_turn_view(event, turn), event.seq))
            page = _with_turn(page, event, turn) if not gone else page
        elif gone:
            pass  # only its number is kept
        elif event.type.startswith("session."):
            page = self._session_event(key, page, event)
        elif event.type in _ANSWERS:
            page = _answered(page, event)
        self._put(key, page)

    def _session_event(self, key: SessionKey, page: SessionPage, event: Event) -> SessionPage:
        view = page.view
        if event.type == "session.opened":
            return replace(page, view=_opened_view(view, event))
        if event.type == "session.idled":
            data = msgspec.json.decode(event.data, type=SessionIdled)
            return replace(page, view=replace(view, usage=data.usage, cost_usd=data.cost_usd))
        if event.type == "session.parked":
            turn_id = msgspec.json.decode(event.data, type=SessionParked).turn_id
            return replace(page, waiting=(*page.waiting, turn_id), parked=(*page.parked, turn_id))
        if event.type == "session.unparked":
            return _unparked(page, msgspec.json.decode(event.data, type=SessionUnparked).turn_id)
        if event.type == "session.archived":
            return replace(page, view=replace(view, status="archived"), waiting=(), parked=())
        if event.type == "session.erased":
            self._forget(key)
            return erased(replace(page, parked=()), event.at)
        if event.type == "session.status_running" and view.status == "requires_action":
            return self._resumed(key, page, event)
        return page

    def _resumed(self, key: SessionKey, page: SessionPage, event: Event) -> SessionPage:
        if page.view.pending_actions or page.view.open_turn is None:
            return page
        turn_key = (*key, page.view.open_turn)
        stored = self._turns.get(turn_key)
        if stored is not None:
            running = replace(stored.view, status="running")
            self._put_turn(turn_key, StoredTurn(running, event.seq))
        return replace(page, view=replace(page.view, status="running"))

    def _open(self, key: SessionKey, page: SessionPage) -> None:
        if key not in self._sessions:
            self._put(key, page)

    def _put(self, key: SessionKey, page: SessionPage) -> None:
        self._sessions[key] = self.changes.sessions[key] = page

    def _put_turn(self, key: TurnKey, turn: StoredTurn) -> None:
        self._turns[key] = self.changes.turns[key] = turn

    def _forget(self, key: SessionKey) -> None:
        self.changes.forgotten.add(key)
        for turn_key in [k for k in self.changes.turns if k[:2] == key]:
            del self.changes.turns[turn_key]


def turns_needed(
    events: Iterable[Event], sessions: Mapping[SessionKey, SessionPage]
) -> set[TurnKey]:
    """Stored turns that applying `events` may have to look at: open ones that may run on."""
    needed: set[TurnKey] = set()
    for event in events:
        if event.type != "session.status_running":
            continue
        key = (event.tenant_id, event.session_id)
        page = sessions.get(key)
        if page is not None and page.view.open_turn is not None:
            needed.add((*key, page.view.open_turn))
    return needed


def _opening(request: TurnRequested) -> SessionRequested:
    return SessionRequested(
        tenant_id=request.tenant_id,
        session_id=request.session_id,
        at=request.at,
        user_id=request.user_id,
        agent=request.agent,
        mode=request.mode,
    )


def _unseen(event: Event) -> SessionPage:
    """A session whose beginning this read model never saw."""
    view = SessionView(
        session_id=event.session_id,
        tenant_id=event.tenant_id,
        user_id=event.user_id,
        status="idle",
        created_at=normal(event.at),
    )
    return SessionPage(view=view)


def _opened_view(view: SessionView, event: Event) -> SessionView:
    data = msgspec.json.decode(event.data, type=SessionOpened)
    return replace(
        view,
        user_id=data.user_id,
        title=data.title,
        metadata=data.metadata,
        agent=data.agent,
        mode=data.mode,
        budget_usd=data.budget_usd,
        vault_ids=data.vault_ids,
    )


def _turn_view(event: Event, turn: Turn) -> TurnView:
    return TurnView(
        turn_id=turn.turn_id,
        session_id=event.session_id,
        user_id=turn.user_id,
        status=turn.status,
        reply=turn.reply if turn.status in ("completed", "interrupted") else None,
        usage=turn.usage,
        cost_usd=turn.cost_usd,
        error=turn.error,
        submitted_at=turn.submitted_at,
        started_at=turn.started_at,
        first_token_at=turn.first_token_at,
        ended_at=turn.ended_at,
        attempts=turn.attempts,
        tool_calls=turn.tool_calls,
        stop_reason=turn.stop_reason,
        trace_id=event.trace_id,
    )


def _with_turn(page: SessionPage, event: Event, turn: Turn) -> SessionPage:
    if event.type == "turn.accepted":
        return _queued(page, event)
    if event.type in TURN_ENDS:
        return _ended(page, turn)
    view = page.view
    if event.type == "turn.requires_action":
        data = msgspec.json.decode(event.data, type=TurnRequiresAction)
        view = replace(view, status="requires_action", pending_actions=data.pending_actions)
    elif event.type == "turn.retrying":
        view = replace(view, pending_actions=())
    elif event.type == "turn.started" and view.status not in ("archived", "erased"):
        view = replace(view, status="running", open_turn=turn.turn_id)
    return replace(page, view=view)


def _queued(page: SessionPage, event: Event) -> SessionPage:
    data = msgspec.json.decode(event.data, type=TurnAccepted)
    if data.turn_id in page.parked:
        return _go_on(replace(page, parked=_without(page.parked, data.turn_id)))
    if page.view.open_turn is None and not page.waiting:
        return _taken_up(page, data.turn_id)
    first = data.on_busy == "interrupt" and data.behind is UNSET
    if first and page.view.open_turn is not None:
        return replace(page, waiting=(data.turn_id, *page.waiting))
    return replace(page, waiting=(*page.waiting, data.turn_id))


def _taken_up(page: SessionPage, turn_id: str) -> SessionPage:
    view = page.view
    status = view.status if view.status in ("archived", "erased") else "running"
    view = replace(view, open_turn=turn_id, status=status, pending_actions=())
    return replace(page, view=view)


def _ended(page: SessionPage, turn: Turn) -> SessionPage:
    view = page.view
    if turn.turn_id != view.open_turn:
        return replace(page, waiting=_without(page.waiting, turn.turn_id))
    closed = view.status in ("archived", "erased")
    view = replace(
        view,
        open_turn=None,
        pending_actions=(),
        status=view.status if closed else "idle",
        usage=view.usage + turn.usage,
        cost_usd=round(view.cost_usd + turn.cost_usd, 6),
    )
    return _go_on(replace(page, view=view))


def _go_on(page: SessionPage) -> SessionPage:
    """With nothing open, the turn that is next is, unless it is a dead letter."""
    if page.view.open_turn is not None or not page.waiting or page.waiting[0] in page.parked:
        return page
    return _taken_up(replace(page, waiting=page.waiting[1:]), page.waiting[0])


def _unparked(page: SessionPage, turn_id: str) -> SessionPage:
    waiting, parked = _without(page.waiting, turn_id), _without(page.parked, turn_id)
    return _go_on(replace(page, waiting=waiting, parked=parked))


def _without(turns: tuple[str, ...], turn_id: str) -> tuple[str, ...]:
    return tuple(turn for turn in turns if turn != turn_id)


def _answered(page: SessionPage, event: Event) -> SessionPage:
    answered = provider.answered(event.data)
    left = tuple(a for a in page.view.pending_actions if a.tool_use_id != answered)
    return replace(page, view=replace(page.view, pending_actions=left))
