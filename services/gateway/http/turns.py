"""POST and GET of turns. Posting is the hot path: one decode, no models between, an answer of bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope

from services.gateway.accept import Accept
from services.gateway.bodies import NewTurn
from services.gateway.http.auth import caller_of
from services.gateway.http.problems import as_json
from services.gateway.http.request import decode, headers_of, read_body
from services.gateway.ids import require_id, require_key
from services.gateway.ports import TurnKey
from services.gateway.read_model.caught_up import CaughtUp, looked_for
from services.gateway.register import Register
from services.gateway.views import TurnView
from shared.errors import Rejected, Transient
from shared.session.content import require_turn

_new_turn = msgspec.json.Decoder(NewTurn)


class PostTurn:
    """POST /v1/sessions/{session_id}/turns, as `Front` calls it.

    Raises what `problems.answer` knows.
    """

    def __init__(self, accept: Accept) -> None:
        self._accept = accept

    async def __call__(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        caller = caller_of(scope)
        session_id = require_id(scope["path_params"]["session_id"], "session_id")
        wish = decode(_new_turn, await read_body(scope, receive, largest="content"))
        require_turn(wish.content, wish.outcome, wish.on_busy)
        key = (caller.tenant_id, session_id)
        turn = await self._accept.turn(key, wish, idempotency_key(scope))
        # Ids hold nothing that JSON would escape.
        text = f'{{"turn_id":"{turn.turn_id}","session_id":"{session_id}","status":"accepted"}}'
        return 202, text.encode()


def idempotency_key(scope: Scope) -> str | None:
    """The header's value. Raises Rejected (`invalid_request`) when it is no key."""
    value = headers_of(scope).get(b"idempotency-key")
    return None if value is None else require_key(value.decode("latin-1"))


def turn_reader(
    caught_up: CaughtUp, register: Register, patience: float
) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint GET /v1/sessions/{session_id}/turns/{turn_id}. `patience`: for how many seconds a turn that is
    not known is looked for; 0 where no other process of this gateway accepts turns."""

    async def get_turn(request: Request) -> Response:
        """The turn as SQL has it, else as it was just accepted here. Raises Rejected (`invalid_request`,
        `unknown_turn`), or Transient when SQL does not answer and it was not accepted here."""
        caller = caller_of(request.scope)
        session_id = require_id(request.path_params["session_id"], "session_id")
        turn_id = require_id(request.path_params["turn_id"], "turn_id")
        key = (caller.tenant_id, session_id, turn_id)
        turn = await _turn(caught_up, register, key)
        if turn is None:
            look = partial(caught_up.read_model.turn, key)
            turn = await looked_for(look, lambda found: found is not None, patience)
        if turn is None:
            raise Rejected("unknown_turn", f"session {session_id} has no turn {turn_id}")
        return as_json(turn)

    return get_turn


async def _turn(caught_up: CaughtUp, register: Register, key: TurnKey) -> TurnView | None:
    session = register.session(key[:2])
    erased = session is not None and session.closed == "erase"
    accepted = None if erased else register.turn(key)
    try:
        return await caught_up.turn(key) or accepted
    except Transient:
        if accepted is None:
            raise
        return accepted
