"""What does a session or a turn look like before anything happened to it? Pure."""

from __future__ import annotations

from services.gateway.views import SessionPage, SessionView, TurnView
from shared.session.inputs import SessionRequested, TurnRequested


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
        trace_id=trace_id,
    )
