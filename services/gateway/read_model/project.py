"""The projection. Pure: records and rows in, changes out.

A session's row is what the core's `evolve` makes of its events, seen by `views.session_view`; a turn's row is the
turn as its newest `turn.*` event carries it, or as the state has it when another event moved it. No rule of a
session is written here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec
from msgspec.structs import replace

from services.gateway.ports import Changes, StoredSession, StoredTurn
from services.gateway.views import (
    SETTLED,
    SessionPage,
    SessionView,
    SettledCall,
    accepted_turn,
    kept,
    opened,
    session_view,
    turn_view,
)
from shared import telemetry
from shared.moment import normal
from shared.session import provider
from shared.session.events import TURN_ENDS, Event, Turn
from shared.session.evolve import evolve
from shared.session.inputs import (
    ArchiveRequested,
    EraseRequested,
    Request,
    SessionRequested,
    TurnRequested,
)
from shared.session.key import SessionKey
from shared.session.state import Progress, SessionState, SessionStatus, initial
from shared.session.transitions import IllegalTransition
from shared.session.upcast import UnknownShape


def forgotten(state: SessionState) -> SessionState:
    """An erased session's state: its ids and sums, nothing that was said. It folds on to the same sums."""
    turn = state.turn
    if turn is not None:
        turn = Turn(
            turn_id=turn.turn_id,
            user_id=turn.user_id,
            status=turn.status,
            submitted_at=turn.submitted_at,
        )
    return SessionState(
        tenant_id=state.tenant_id,
        session_id=state.session_id,
        user_id=state.user_id,
        mode=state.mode,
        budget_usd=state.budget_usd,
        status=state.status,
        last_seq=state.last_seq,
        opened_at=state.opened_at,
        turn=turn,
        progress=Progress(input_id="") if turn else None,
        usage=state.usage,
        cost_cents=state.cost_cents,
        rotated_cents=state.rotated_cents,
        ledger=state.ledger,
    )


def is_late(page: SessionPage | None, request: Request) -> bool:
    """Whether an input is of no interest because its session is erased: all but a turn asked for after that, which
    is refused as too late. One from before comes again when offsets were rewound."""
    if page is None or page.erased_at is None:
        return False
    return not isinstance(request, TurnRequested) or request.at <= page.erased_at


def is_told(page: SessionPage, turn: Turn) -> bool:
    """Whether a turn of an erased session is kept: one asked for after the erasure is, so that its refusal can be
    read."""
    late = normal(turn.submitted_at) > (page.erased_at or "")
    return turn.status == "refused" and late


# What was asked before these is never asked again; after another attempt of the turn it may be.
_ENDS_QUESTIONS = TURN_ENDS | {"session.rotated"}
# What `Projection.event` raises.
UNUSABLE = (IllegalTransition, UnknownShape, msgspec.DecodeError, ValueError)


@dataclass(slots=True)
class _Row:
    """A session's row while events go through it: `page.view` is made at the end."""

    page: SessionPage
    state: SessionState | None
    last_seq: int

    @property
    def behind(self) -> bool:
        return (self.state.last_seq if self.state else 0) < self.last_seq


class Projection:
    """One batch at work: starts from stored rows and ends in `finish`. What is only asked for is written where
    there is no row of it yet.

    `behind` are sessions of which events are missing: their states have to be folded from the history. `torn` says
    that what is missing is gone for good: then the rest is folded without it.
    """

    def __init__(
        self,
        sessions: Mapping[SessionKey, StoredSession],
        *,
        torn: bool = False,
    ) -> None:
        self._stored = sessions
        self._rows: dict[SessionKey, _Row] = {}
        self._torn = torn
        self._changes = Changes()
        self.behind: set[SessionKey] = set()

    def request(self, request: Request, trace_id: str) -> None:
        """Apply an input whose time is in `shared.moment`'s form.

        The worker decides what becomes of it; here it only becomes visible.
        """
        key = (request.tenant_id, request.session_id)
        row = self._row(key)
        if is_late(row.page if row else None, request):
            return
        if isinstance(request, SessionRequested | TurnRequested):
            if row is None:
                self._rows[key] = _Row(opened(request), None, 0)
            if isinstance(request, TurnRequested):
                turn = StoredTurn(accepted_turn(request, trace_id))
                self._changes.turns.setdefault((*key, request.turn_id), turn)
        elif row is not None:
            row.page = _asked(row.page, request)

    def event(self, event: Event) -> None:
        """Apply an event; one that is known already (by `seq`) changes nothing.

        Raises what `evolve` raises for an event that can't be folded, which is passed over then, and
        msgspec.DecodeError for one whose data is not of its type.
        """
        key = (event.tenant_id, event.session_id)
        row = self._row(key)
        if row is None:
            row = self._rows[key] = _Row(_unseen(event), None, 0)
        if event.seq <= row.last_seq:
            return
        if event.type.startswith("turn."):
            self._turn_event(key, row.page, event)
        missing = event.seq != row.last_seq + 1 or row.behind
        row.last_seq = event.seq
        if missing and (self._torn or _is_gone(row.page, event)):
            row.state, missing = row.state or _assumed(row.page.view), False
        if missing:
            self.behind.add(key)
        else:
            self._fold(key, row, event)

    def reach(self, key: SessionKey, seq: int) -> None:
        """Count the events up to `seq` as known, although the newest may be gone for good."""
        row = self._row(key)
        if row is not None and row.last_seq < seq:
            row.state = replace(row.state or _assumed(row.page.view), last_seq=seq)
            row.last_seq = seq

    def finish(self) -> Changes:
        """What is to be written: each page as its state tells it. Nothing is applied afterwards."""
        for key, row in self._rows.items():
            stored, state, view = self._stored.get(key), row.state, row.page.view
            if stored == StoredSession(row.page, state) and view.last_seq == row.last_seq:
                continue
            if state is None or row.behind:
                view = replace(view, last_seq=row.last_seq)
            else:
                state = forgotten(state) if state.status == "erased" else kept(state)
                view = session_view(state, view.created_at)
            self._changes.sessions[key] = StoredSession(replace(row.page, view=view), state)
        return self._changes

    def _row(self, key: SessionKey) -> _Row | None:
        row = self._rows.get(key)
        if row is None and (stored := self._stored.get(key)) is not None:
            last_seq = stored.page.view.last_seq
            row = self._rows[key] = _Row(stored.page, stored.state, last_seq)
        return row

    def _fold(self, key: SessionKey, row: _Row, event: Event) -> None:
        before = row.state or initial(*key)
        row.state = replace(before, last_seq=event.seq)  # also when it can't be folded
        row.state = after = evolve(before, event)
        if after.status == "erased":
            if before.status != "erased":
                row.page = replace(
                    row.page, erased_at=normal(event.at), closing="erase", settled=()
                )
                self._forget(key)
            return
        if before.pending != after.pending:
            row.page = _settled(row.page, event, before, after)
        if _moved(event, before.turn, after.turn):
            assert after.turn is not None
            assert after.progress is not None
            trace_id = telemetry.trace_id_of(after.progress.traceparent)
            view = turn_view(key[1], after.turn, trace_id)
            self._changes.turns[(*key, view.turn_id)] = StoredTurn(view, event.seq)

    def _turn_event(self, key: SessionKey, page: SessionPage, event: Event) -> None:
        turn = msgspec.json.decode(event.data, type=Turn)
        if page.erased_at is None or is_told(page, turn):
            view = turn_view(key[1], turn, event.trace_id)
            self._changes.turns[(*key, turn.turn_id)] = StoredTurn(view, event.seq)

    def _forget(self, key: SessionKey) -> None:
        self._changes.forgotten.add(key)
        for turn_key in [k for k in self._changes.turns if k[:2] == key]:
            del self._changes.turns[turn_key]


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


def _is_gone(page: SessionPage, event: Event) -> bool:
    """Whether the session has no history any more: what is erased is not folded anew."""
    return page.erased_at is not None or event.type == "session.erased"


def _assumed(view: SessionView) -> SessionState:
    """A state for a session whose first events are gone: at rest, unless it is closed."""
    return SessionState(
        tenant_id=view.tenant_id,
        session_id=view.session_id,
        user_id=view.user_id,
        title=view.title,
        metadata=view.metadata,
        agent=view.agent,
        mode=view.mode,
        budget_usd=view.budget_usd,
        vault_ids=view.vault_ids,
        resources=view.resources,
        status=_at_rest(view),
        opened_at=view.created_at,
    )


def _at_rest(view: SessionView) -> SessionStatus:
    if view.resumable:
        return "dormant"
    return view.status if view.status in ("archived", "erased") else "idle"


def _asked(page: SessionPage, request: Request) -> SessionPage:
    """The page after an input that neither opens the session nor asks for a turn."""
    if isinstance(request, ArchiveRequested):
        return replace(page, closing="archive")
    if isinstance(request, EraseRequested):
        return replace(page, closing="erase")
    return page


def _settled(
    page: SessionPage, event: Event, before: SessionState, after: SessionState
) -> SessionPage:
    """The page after calls ceased to wait for good: answered, or gone with the turn or with what it ran in. After
    another attempt of the turn the same call may be asked again."""
    left = {action.tool_use_id for action in after.pending}
    gone = [a.tool_use_id for a in before.pending if a.tool_use_id not in left]
    answered = provider.answered(event.data) in gone
    if not gone or not (answered or event.type in _ENDS_QUESTIONS):
        return page
    end: Literal["answered", "withdrawn"] = "answered" if answered else "withdrawn"
    calls = [SettledCall(tool_use_id=id, end=end, at=normal(event.at)) for id in gone]
    return replace(page, settled=(*page.settled, *calls)[-SETTLED:])


def _moved(event: Event, before: Turn | None, after: Turn | None) -> bool:
    """Whether the open turn has another status by an event that does not carry the turn."""
    if before is None or after is None or event.type.startswith("turn."):
        return False
    return before.turn_id == after.turn_id and before.status != after.status
