"""Confirms connections in the stead of people who put a credential into a vault: turns that may use it are tried
again. Which MCP servers a session waits for, not at which address, is all that the gateway knows: so a credential
confirms whatever the sessions that have its vault wait for, and what it does not help waits again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from services.gateway.accept import Accept
from services.gateway.ports import ReadModel, SessionFilter
from services.gateway.views import SessionView
from shared import logs
from shared.errors import Rejected, Transient
from shared.moment import rfc3339
from shared.ownership import PROJECT, Binding, is_for
from shared.session.inputs import ToolConfirmed

_log = logs.get("gateway.confirmations")
PAGE = 100
# Credentials whose sessions are to be looked at once more.
MOST_LOOKS = 1_000


@dataclass(frozen=True, slots=True)
class Confirmations:
    """`tool.confirmed` for pending actions of kind `connection`, one for each whatever happens. What tried the
    credential before shortly before it was exchanged may wait only in a moment: so the sessions are looked at once
    more, `again_after` so many seconds."""

    accept: Accept
    read_model: ReadModel
    again_after: float = 5.0
    looks: set[asyncio.Task[None]] = field(default_factory=set)

    async def connected(self, vault: Binding) -> None:
        """Confirm what waits for a connection in the sessions that have this vault. Never raises for what is not
        to be had: the credential stands, and people can confirm it themselves."""
        await self._look(vault)
        if len(self.looks) < MOST_LOOKS:
            look = asyncio.create_task(self._look_again(vault), name="confirmations")
            self.looks.add(look)
            look.add_done_callback(self.looks.discard)

    async def _look_again(self, vault: Binding) -> None:
        await asyncio.sleep(self.again_after)
        await self._look(vault)

    async def _look(self, vault: Binding) -> None:
        try:
            async for view in self._waiting(vault):
                await self._confirm(view)
        except Transient as error:
            _log.warning("connections_not_confirmed", vault_id=vault.id, reason=error.reason)

    async def _waiting(self, vault: Binding) -> AsyncIterator[SessionView]:
        before = None
        while True:
            wanted = SessionFilter(
                tenant_id=vault.tenant_id,
                status="requires_action",
                limit=PAGE,
                before=before,
            )
            pages = await self.read_model.sessions(wanted)
            for page in pages:
                if may_have(page.view, vault):
                    yield page.view
            if len(pages) < PAGE:
                return
            before = (pages[-1].view.created_at, pages[-1].view.session_id)

    async def _confirm(self, view: SessionView) -> None:
        for action in view.pending_actions:
            if action.kind != "connection":
                continue
            confirmed = ToolConfirmed(
                tenant_id=view.tenant_id,
                session_id=view.session_id,
                at=rfc3339(self.accept.clock()),
                tool_use_id=action.tool_use_id,
                result="allow",
            )
            try:
                # Under a key of its own, so that credentials that come one after the other count once.
                await self.accept.wish("tool.confirmed", confirmed, "connected")
            except Rejected:
                continue  # it was answered, or its session closed, meanwhile


def may_have(session: SessionView, vault: Binding) -> bool:
    """Whether the session has this vault, or may get it with its next provider session."""
    if session.vault_ids is not None:
        return vault.id in session.vault_ids
    return is_for(vault, (session.metadata or {}).get(PROJECT, ""), session.user_id)
