"""Finds the provider session that an earlier try made and nobody journaled, by the mark in its metadata.

The API filters sessions by time and not by metadata, so the list is read; after a crash many ask at once, and those
who ask at the same time share one reading of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec
from anthropic import AsyncAnthropic
from msgspec import Struct

from services.agent_worker.ports import ProviderSession
from services.agent_worker.provider.stream import sessions_since
from shared.grouped import Grouped
from shared.moment import parse
from shared.orphans import MARK, mark
from shared.session.state import OPENING, SessionState

# Sessions looked through, newest first.
MAX_LOOKED_AT = 10_000
CLOCKS_DIFFER = timedelta(minutes=10)


class _Model(Struct, frozen=True):
    id: str = ""


class _Agent(Struct, frozen=True):
    id: str = ""
    version: int = 0
    model: _Model = _Model()


class _Money(Struct, frozen=True):
    amount: str = ""


class _Budget(Struct, frozen=True):
    max_list_cost: _Money = _Money()


class _Made(Struct, frozen=True):
    id: str
    status: str = ""
    archived_at: str | None = None
    metadata: dict[str, str] = {}
    agent: _Agent = _Agent()
    budget: _Budget | None = None


_made = msgspec.json.Decoder(_Made)


class Ask(NamedTuple):
    """What is looked for: sessions of this mark, made since then, but for those `given_up` (a hung session lives
    on), and with this budget in US cents: one made before others were spent in may spend too much."""

    marked: str
    since: datetime
    given_up: tuple[str, ...]
    budget: int | None


class Orphans:
    """Finds living sessions by mark. Raises what the SDK raises."""

    def __init__(self, client: AsyncAnthropic) -> None:
        self._client = client
        self._asked = Grouped(self._look)

    async def find(self, state: SessionState) -> ProviderSession | None:
        """The newest session made for `state` since its open turn was submitted (while it is being prewarmed: since
        it was opened), none that it gave up, none with another budget than what is left."""
        marked = mark(state.tenant_id, state.session_id)
        since = parse(_sought_since(state)) - CLOCKS_DIFFER
        return await self._asked(Ask(marked, since, state.given_up, state.budget_left))

    async def _look(self, asks: Sequence[Ask]) -> list[ProviderSession | None]:
        found = dict[Ask, ProviderSession]()
        marked: dict[str, set[Ask]] = {}
        for ask in asks:
            marked.setdefault(ask.marked, set()).add(ask)
        looked_at = 0
        async for page in sessions_since(self._client, min(ask.since for ask in asks)):
            for session in map(_made.decode, page):
                for ask in marked.get(session.metadata.get(MARK, ""), ()):
                    if _lives(session) and _suits(session, ask):
                        found.setdefault(ask, _bound(session))
            looked_at += len(page)
            if len(found) == len(set(asks)) or looked_at >= MAX_LOOKED_AT:
                break
        return [found.get(ask) for ask in asks]


def _sought_since(state: SessionState) -> str:
    if state.prewarm == OPENING:
        assert state.opened_at is not None
        return state.opened_at
    assert state.turn is not None
    return state.turn.submitted_at


def _bound(session: _Made) -> ProviderSession:
    agent = session.agent
    return ProviderSession(session.id, agent.id, agent.model.id, agent.version)


def _lives(session: _Made) -> bool:
    return session.status != "terminated" and session.archived_at is None


def _suits(session: _Made, ask: Ask) -> bool:
    amount = session.budget.max_list_cost.amount if session.budget else None
    wanted = None if ask.budget is None else str(ask.budget)
    return session.id not in ask.given_up and amount == wanted
