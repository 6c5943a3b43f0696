"""What can be asked of a session besides a turn: published as inputs; the session decides, not the gateway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.accept import Accept
from services.gateway.bodies import Confirmation, NewBudget, Nothing, ToolResult
from services.gateway.http.problems import as_json
from services.gateway.http.request import decode, read_body
from services.gateway.http.sessions import session_key
from services.gateway.http.turns import idempotency_key
from services.gateway.views import Accepted
from shared.moment import rfc3339
from shared.session.admission import require_sense
from shared.session.inputs import (
    ArchiveRequested,
    BudgetRaised,
    EraseRequested,
    InterruptRequested,
    ToolAnswered,
    ToolConfirmed,
)
from shared.session.inputs import (
    Request as Wish,
)

Endpoint = Callable[[Request], Awaitable[Response]]
Make = Callable[..., Wish]

# route: the input's type, its body, the input made of it
ACTIONS: dict[str, tuple[str, type[Any], Make]] = {
    "interrupt": ("interrupt.requested", Nothing, InterruptRequested),
    "tool_confirmations": ("tool.confirmed", Confirmation, ToolConfirmed),
    "tool_results": ("tool.answered", ToolResult, ToolAnswered),
    "budget": ("budget.raised", NewBudget, BudgetRaised),
    "archive": ("session.archive_requested", Nothing, ArchiveRequested),
    "erase": ("session.erase_requested", Nothing, EraseRequested),
}


def action(accept: Accept, name: str) -> Endpoint:
    """The endpoint of one of ACTIONS: 202 once the wish is safe on the log."""
    kind, body_type, make = ACTIONS[name]
    decoder = msgspec.json.Decoder(body_type)

    async def act(request: Request) -> Response:
        """Publish the wish; 202 once it is safe on the log. Raises what `read_body`, `decode` and `Accept.wish`
        raise."""
        tenant_id, session_id = session_key(request)
        raw = await read_body(request.scope, request.receive)
        body = decode(decoder, raw if raw.strip() or body_type is not Nothing else b"{}")
        wish = make(
            tenant_id=tenant_id,
            session_id=session_id,
            at=rfc3339(accept.clock()),
            **{field: getattr(body, field) for field in body.__struct_fields__},
        )
        require_sense(wish)
        await accept.wish(kind, wish, idempotency_key(request.scope))
        return as_json(Accepted(session_id=session_id), 202)

    act.__name__ = name
    return act
