"""What does the read model keep of an erased session, and of what still comes for it? Pure."""

from __future__ import annotations

from msgspec.structs import replace

from services.gateway.views import SessionPage
from shared.moment import normal
from shared.session.events import Turn
from shared.session.inputs import Request, TurnRequested


def erased(page: SessionPage, at: str) -> SessionPage:
    """The page with its ids and sums and nothing that was said; what comes for it is measured by `at`."""
    view = replace(
        page.view,
        status="erased",
        title=None,
        metadata=None,
        agent=None,
        vault_ids=None,
        pending_actions=(),
        open_turn=None,
    )
    return replace(page, view=view, erased_at=normal(at), waiting=(), closing="erase")


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
