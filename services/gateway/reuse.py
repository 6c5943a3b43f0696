"""One session for a user, for good: which session somebody goes on with who asks for `reuse`.

A user has one row a scope in SQL (`UserSessions`); whoever opens, closes or replaces the user's session does so by
a compare-and-set of that row, so that all who ask at once, at however many gateways, are told of one session. That
it is open is looked up each time; one that was closed for good is replaced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from services.gateway.bodies import NewSession
from services.gateway.ports import ReadModel, SessionFilter, UserScope, UserSessions
from services.gateway.register import Register, known
from services.gateway.views import SessionPage
from shared.session.key import SessionKey

# The scope of `reuse: "user"`; others name the agent.
ANY = "user"
# The user's newest sessions looked through for an open one, before the user has a row.
LOOKED_AT = 200


@dataclass(frozen=True, slots=True)
class Reuse:
    """`default` counts for requests that say nothing about it; `ids` makes a new id from a prefix. One event loop
    owns it; those who ask for one scope at the same time share the answer."""

    users: UserSessions
    read_model: ReadModel
    register: Register
    default: Literal["never", "user", "user_agent"]
    ids: Callable[[str], str]
    asking: dict[UserScope, asyncio.Task[str]] = field(default_factory=dict)

    def scope(self, tenant_id: str, body: NewSession) -> UserScope | None:
        """Which of the user's sessions a request means; None when it asks for a new one, or names one and says
        nothing of reuse."""
        reuse = body.reuse or ("never" if body.session_id else self.default)
        if reuse == "never":
            return None
        return tenant_id, body.user_id, ANY if reuse == "user" else f"agent:{body.agent or ''}"

    async def session_for(self, scope: UserScope, body: NewSession) -> str:
        """The id of the session that this is about, which may still have to be opened under it.

        Raises Transient when the database does not answer.
        """
        asking = self.asking.get(scope)
        if asking is None:
            asking = asyncio.create_task(self._found(scope, body), name="reuse")
            self.asking[scope] = asking
            asking.add_done_callback(lambda _: self.asking.pop(scope))
        return await asyncio.shield(asking)

    async def _found(self, scope: UserScope, body: NewSession) -> str:
        held = await self.users.held(scope)
        if held is None:
            open_one = await self._newest_open(scope, body)
            held = await self.users.hold(scope, None, open_one or self._new(body))
        while await self._is_closed((scope[0], held)):
            held = await self.users.hold(scope, held, self._new(body, instead_of=held))
        return held

    def _new(self, body: NewSession, instead_of: str = "") -> str:
        named = body.session_id
        return named if named and named != instead_of else self.ids("ses_")

    async def _newest_open(self, scope: UserScope, body: NewSession) -> str | None:
        """A session of this mode that the user has without having asked for reuse before: a job that ran in the
        background is nothing to go on talking in."""
        wanted = SessionFilter(tenant_id=scope[0], user_id=body.user_id, limit=LOOKED_AT)
        for page in await self.read_model.sessions(wanted):
            same = scope[2] == ANY or (page.view.agent or "") == (body.agent or "")
            if same and page.view.mode == body.mode and not self._closed(page):
                return page.view.session_id
        return None

    async def _is_closed(self, key: SessionKey) -> bool:
        """Whether nobody can go on with it; one that is not there yet is being opened, or will be by us."""
        if not key[1]:
            return True
        page = await self.read_model.session(key)
        return page is not None and self._closed(page)

    def _closed(self, page: SessionPage) -> bool:
        here = self.register.session((page.view.tenant_id, page.view.session_id))
        return known(page).closed is not None or (here is not None and here.closed is not None)
