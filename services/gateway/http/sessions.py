"""Sessions: opened, listed, read as they are or as they were at a seq."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope

from services.gateway.accept import Accept
from services.gateway.bodies import NewSession, Prewarm
from services.gateway.http.auth import caller_of
from services.gateway.http.problems import as_json
from services.gateway.http.request import decode, read_body
from services.gateway.http.turns import idempotency_key
from services.gateway.ids import ID, require_id
from services.gateway.ports import ReadModel, SessionFilter
from services.gateway.read_model.caught_up import CaughtUp
from services.gateway.read_model.refold import state_at
from services.gateway.streams.history import History
from services.gateway.views import SessionList, SessionPage, SessionView
from shared.errors import Rejected
from shared.moment import parse
from shared.session.key import SessionKey
from shared.session.resources import require_resources
from shared.session.state import PublicStatus

UserId = Annotated[
    str | None, Query(description="Of this user only", json_schema_extra={"pattern": ID})
]
Status = Annotated[PublicStatus | None, Query(description="In this status only")]
Cursor = Annotated[str | None, Query(description="The `next_cursor` of the page before")]
AtSeq = Annotated[int | None, Query(ge=1, description="As it was after this event")]
Limit = Annotated[int, Query(ge=1, le=200, description="How many at most")]
_new_session = msgspec.json.Decoder(NewSession)
_prewarm = msgspec.json.Decoder(Prewarm)


def session_key(request: Request) -> SessionKey:
    """The session a request is about. Raises Rejected (`invalid_request`) when its id is no id."""
    session_id = require_id(request.path_params["session_id"], "session_id")
    return caller_of(request.scope).tenant_id, session_id


class OpenSession:
    """POST /v1/sessions, as `Front` calls it. Raises what `problems.answer` knows."""

    def __init__(self, accept: Accept) -> None:
        self._accept = accept

    async def __call__(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        body = decode(_new_session, await read_body(scope, receive))
        require_resources(body.resources)
        tenant = caller_of(scope).tenant_id
        page, new = await self._accept.open(tenant, body, idempotency_key(scope))
        return 201 if new else 200, msgspec.json.encode(page.view)


class PrewarmSession:
    """POST /v1/prewarm, as `Front` calls it. Raises what `problems.answer` knows."""

    def __init__(self, accept: Accept) -> None:
        self._accept = accept

    async def __call__(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        asked = decode(_prewarm, await read_body(scope, receive))
        tenant = caller_of(scope).tenant_id
        body = NewSession(user_id=asked.user_id, agent=asked.agent, prewarm=True)
        page, new = await self._accept.open(tenant, body, idempotency_key(scope))
        return 201 if new else 200, msgspec.json.encode(page.view)


def session_lister(read_model: ReadModel) -> Callable[..., Awaitable[Response]]:
    """The endpoint GET /v1/sessions."""

    async def list_sessions(
        request: Request,
        user_id: UserId = None,
        status: Status = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Response:
        """One page, newest first; `next_cursor` is None when the page is not full. Raises Rejected
        (`invalid_request`) or Transient."""
        wanted = SessionFilter(
            tenant_id=caller_of(request.scope).tenant_id,
            user_id=require_id(user_id, "user_id") if user_id is not None else None,
            status=status,
            limit=limit,
            before=_place(cursor) if cursor else None,
        )
        pages = await read_model.sessions(wanted)
        more = len(pages) == limit
        next_cursor = _cursor(pages[-1].view) if more else None
        return as_json(SessionList(data=[page.view for page in pages], next_cursor=next_cursor))

    return list_sessions


def session_reader(caught_up: CaughtUp, history: History) -> Callable[..., Awaitable[Response]]:
    """The endpoint GET /v1/sessions/{session_id}."""

    async def get_session(request: Request, at_seq: AtSeq = None) -> Response:
        key = session_key(request)
        page = await require_session(caught_up, key)
        if at_seq is None:
            return as_json(page.view)
        require_kept(page)
        return as_json(await state_at(history, page.view, at_seq))

    return get_session


async def require_session(tables: ReadModel | CaughtUp, key: SessionKey) -> SessionPage:
    """The session's row, from `tables` as they are or caught up.

    Raises Rejected (`unknown_session`), also when it is another tenant's.
    """
    page = await tables.session(key)
    if page is None:
        raise Rejected("unknown_session", f"there is no session {key[1]}")
    return page


def require_kept(page: SessionPage) -> None:
    """Raises Rejected (`session_erased`) when the session was erased and nothing of it can be read."""
    if page.view.status == "erased":
        when = f" ({page.erased_at})" if page.erased_at else ""
        raise Rejected(
            "session_erased", f"session {page.view.session_id} was erased{when}: none of it is kept"
        )


def _cursor(view: SessionView) -> str:
    place = msgspec.json.encode([view.created_at, view.session_id])
    return base64.urlsafe_b64encode(place).decode().rstrip("=")


def _place(cursor: str) -> tuple[str, str]:
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        created_at, session_id = msgspec.json.decode(raw, type=tuple[str, str])
        parse(created_at)
        return created_at, require_id(session_id, "cursor")
    except (binascii.Error, ValueError) as error:
        raise Rejected(
            "invalid_request", "is not a `next_cursor` of this list", field="cursor"
        ) from error
