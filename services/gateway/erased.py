"""What does the read model keep of an erased session, and of what still comes for it? Pure."""

from __future__ import annotations

from services.gateway.views import SessionPage
from shared.moment import normal
from shared.session.events import Turn
from shared.session.inputs import Request, TurnRequested
from shared.session.state import Progress, SessionState


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
    )


def is_late(page: SessionPage | None, request: Request) -> bool:
    """Whether an input is of no interest because its session is erased: all but a turn asked for after that, which
    is told that it came too late. One from before comes again when offsets were rewound."""
    if page is None or page.erased_at is None:
        return False
    return not isinstance(request, TurnRequested) or request.at <= page.erased_at


def is_told(page: SessionPage, turn: Turn) -> bool:
    """Whether a turn of an erased session is kept: one asked for after the erasure, that it was refused."""
    late = normal(turn.submitted_at) > (page.erased_at or "")
    return turn.status == "refused" and late
