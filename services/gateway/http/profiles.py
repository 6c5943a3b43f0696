"""GET and PUT /v1/users/{user_id}/profile: what is kept of a user, and told to each new provider session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.bodies import Profile
from services.gateway.http.auth import caller_of
from services.gateway.http.problems import as_json
from services.gateway.http.request import decode, read_body
from services.gateway.ids import require_id
from services.gateway.ports import ProfileStore
from services.gateway.views import ProfileView
from shared.clock import Clock
from shared.errors import Rejected
from shared.moment import rfc3339

# Bytes of JSON that each field may have: an agent reads it at the beginning of each provider session.
MAX_FIELD = 8_192
_profile = msgspec.json.Decoder(Profile)


def profile_reader(store: ProfileStore) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint GET …/profile: an empty one of a user nobody has heard of."""

    async def get_profile(request: Request) -> Response:
        """Raises Rejected (`invalid_request`) or Transient."""
        tenant_id, user_id = _whose(request)
        found = await store.profile(tenant_id, user_id)
        return as_json(found or ProfileView(user_id=user_id))

    return get_profile


def profile_writer(store: ProfileStore, clock: Clock) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint PUT …/profile."""

    async def put_profile(request: Request) -> Response:
        """Raises Rejected (`invalid_request`, `too_large`) or Transient."""
        tenant_id, user_id = _whose(request)
        body = decode(_profile, await read_body(request.scope, request.receive))
        for name in body.__struct_fields__:
            _require_room(name, getattr(body, name))
        empty = not body.preferences and not body.facts
        profile = ProfileView(
            user_id=user_id,
            preferences=body.preferences,
            facts=body.facts,
            updated_at=None if empty else rfc3339(clock()),
        )
        await store.put_profile(tenant_id, profile)
        return as_json(profile)

    return put_profile


def _whose(request: Request) -> tuple[str, str]:
    user_id = require_id(request.path_params["user_id"], "user_id")
    return caller_of(request.scope).tenant_id, user_id


def _require_room(name: str, value: object) -> None:
    size = len(msgspec.json.encode(value))
    if size > MAX_FIELD:
        words = f"may have {MAX_FIELD} bytes as JSON, and has {size}: keep what matters"
        raise Rejected("too_large", words, field=name)
