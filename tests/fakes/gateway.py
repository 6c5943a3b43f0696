"""The gateway's ports in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from services.gateway.ports import (
    Changes,
    Claim,
    Entry,
    Record,
    SessionFilter,
    StoredSession,
    StoredTurn,
    Stretch,
    TurnKey,
    UserScope,
)
from services.gateway.views import ProfileView, SessionPage, TurnView
from shared.bus.envelope import Envelope
from shared.costs import CostRow, Wanted
from shared.errors import Transient
from shared.session.key import SessionKey

# So many events are a stretch of the archive's.
STRETCH = 3


@dataclass
class MemoryInputPublisher:
    """Keeps what was published. `down` makes every call fail as a broker that does not answer."""

    published: list[tuple[Envelope, bytes]] = field(default_factory=list)
    down: bool = False

    async def publish(self, envelope: Envelope, value: bytes) -> None:
        await self.check()
        self.published.append((envelope, value))

    async def check(self) -> None:
        if self.down:
            raise Transient("kafka_unavailable", "the log did not acknowledge", retry_after=1)


@dataclass
class MemoryReadModel:
    """The rows as two dictionaries."""

    rows: dict[SessionKey, StoredSession] = field(default_factory=dict)
    turns: dict[TurnKey, StoredTurn] = field(default_factory=dict)
    keys: dict[Claim, str] = field(default_factory=dict)
    down: bool = False

    async def session(self, key: SessionKey) -> SessionPage | None:
        await self.check()
        stored = self.rows.get(key)
        return stored.page if stored else None

    async def turn(self, key: TurnKey) -> TurnView | None:
        await self.check()
        stored = self.turns.get(key)
        return stored.view if stored else None

    async def sessions(self, wanted: SessionFilter) -> Sequence[SessionPage]:
        await self.check()
        newest = sorted((row.page for row in self.rows.values()), key=_place, reverse=True)
        return [page for page in newest if _wanted(page, wanted)][: wanted.limit]

    async def load(self, sessions: Iterable[SessionKey]) -> Mapping[SessionKey, StoredSession]:
        await self.check()
        return {key: self.rows[key] for key in sessions if key in self.rows}

    async def behind(self, after: SessionKey, limit: int) -> Sequence[SessionKey]:
        await self.check()
        return sorted(key for key, row in self.rows.items() if row.behind and key > after)[:limit]

    async def open(self, page: SessionPage) -> SessionPage:
        await self.check()
        key = (page.view.tenant_id, page.view.session_id)
        return self.rows.setdefault(key, StoredSession(page)).page

    async def save(self, changes: Changes) -> None:
        """See ReadModel.save."""
        await self.check()
        for key, row in changes.sessions.items():
            there = self.rows.get(key)
            if there is None or there.page.view.last_seq <= row.page.view.last_seq:
                known = (there.state, row.state) if there else (row.state,)
                state = max(known, key=lambda state: state.last_seq if state else 0)
                self.rows[key] = StoredSession(row.page, state)
        for turn_key in [key for key in self.turns if key[:2] in changes.forgotten]:
            del self.turns[turn_key]
        for claim in [claim for claim in self.keys if claim[:2] in changes.forgotten]:
            del self.keys[claim]
        for turn_key, turn in changes.turns.items():
            stored = self.turns.get(turn_key)
            if stored is None or 0 < turn.seq >= stored.seq:
                self.turns[turn_key] = turn

    async def claim(self, wanted: Mapping[Claim, str]) -> Mapping[Claim, str]:
        await self.check()
        return {claim: self.keys.setdefault(claim, id) for claim, id in wanted.items()}

    async def claimed(self, key: Claim) -> str | None:
        await self.check()
        return self.keys.get(key)

    async def check(self) -> None:
        if self.down:
            raise Transient("database_unavailable", "the database did not answer", retry_after=2)


@dataclass
class MemoryUsers:
    """Users' sessions and profiles as dictionaries."""

    sessions: dict[UserScope, str] = field(default_factory=dict)
    told: set[tuple[UserScope, str]] = field(default_factory=set)
    profiles: dict[tuple[str, str], ProfileView] = field(default_factory=dict)
    down: bool = False

    async def profile(self, tenant_id: str, user_id: str) -> ProfileView | None:
        await self.check()
        return self.profiles.get((tenant_id, user_id))

    async def put_profile(self, tenant_id: str, profile: ProfileView) -> None:
        await self.check()
        key = (tenant_id, profile.user_id)
        self.profiles.pop(key, None)
        if profile.updated_at is not None:
            self.profiles[key] = profile

    async def held(self, scope: UserScope) -> str | None:
        await self.check()
        return self.sessions.get(scope)

    async def hold(self, scope: UserScope, instead_of: str | None, wanted: str) -> str:
        await self.check()
        if self.sessions.get(scope) == instead_of:
            self.sessions[scope] = wanted
        return self.sessions[scope]

    async def opened(self, scope: UserScope, session_id: str) -> bool:
        await self.check()
        if self.sessions.get(scope) != session_id or (scope, session_id) in self.told:
            return False
        self.told.add((scope, session_id))
        return True

    async def end(self, session: SessionKey) -> None:
        await self.check()
        for scope, held in self.sessions.items():
            if (scope[0], held) == session:
                self.sessions[scope] = ""

    async def check(self) -> None:
        if self.down:
            raise Transient("database_unavailable", "the database did not answer", retry_after=2)


@dataclass
class MemoryEventArchive:
    """Archived events by session, in order; and what is answered about costs, with all that was asked."""

    entries: dict[SessionKey, list[Entry]] = field(default_factory=dict)
    down: bool = False
    cost_rows: list[CostRow] = field(default_factory=list)
    costs_asked: list[Wanted] = field(default_factory=list)

    async def costs(self, wanted: Wanted) -> Sequence[CostRow]:
        await self.check()
        self.costs_asked.append(wanted)
        return self.cost_rows

    async def page(self, key: SessionKey, after: int, limit: int) -> Sequence[Entry]:
        await self.check()
        kept = self.entries.get(key, [])
        return [entry for entry in kept if after < entry.seq <= after + limit]

    async def stretches(
        self, key: SessionKey, after: int, until: int
    ) -> AsyncGenerator[Stretch, None]:
        await self.check()
        kept = [e for e in self.entries.get(key, []) if after < e.seq <= until]
        straight = [e for place, e in enumerate(kept, after + 1) if e.seq == place]
        for place in range(0, len(straight), STRETCH):
            await self.check()
            some = straight[place : place + STRETCH]
            record = b"".join(entry.record for entry in some)
            yield Stretch(len(some), some[-1].seq, some[-1].type, some[-1].at, record)

    async def check(self) -> None:
        if self.down:
            raise Transient("archive_unavailable", "the archive did not answer", retry_after=2)


@dataclass
class MemoryEventLog:
    """The event log; `scans` counts how often it was read back, `since` is from when on it was the last time."""

    entries: dict[SessionKey, list[Entry]] = field(default_factory=dict)
    scans: int = 0
    since: datetime | None = None
    down: bool = False

    async def scan(
        self, key: SessionKey, since: datetime, after: int
    ) -> AsyncGenerator[Entry, None]:
        self.scans += 1
        self.since = since
        if self.down:
            raise Transient("kafka_unavailable", "the log does not answer", retry_after=1)
        for entry in self.entries.get(key, []):
            if entry.seq > after:
                yield entry


@dataclass
class MemoryRecordConsumer:
    """Batches handed out one by one; `commits` counts how often they were dealt with."""

    batches: list[Sequence[Record]] = field(default_factory=list)
    commits: int = 0
    _next: int = 0
    _committed: int = 0

    async def batch(self, timeout: float) -> Sequence[Record]:
        if self._next >= len(self.batches):
            return []
        self._next += 1
        return self.batches[self._next - 1]

    async def commit(self) -> None:
        self.commits += 1
        self._committed = self._next

    async def rewind(self) -> None:
        self._next = self._committed


def _place(page: SessionPage) -> tuple[str, str]:
    return page.view.created_at, page.view.session_id


def _wanted(page: SessionPage, wanted: SessionFilter) -> bool:
    view = page.view
    return (
        view.tenant_id == wanted.tenant_id
        and wanted.user_id in (None, view.user_id)
        and wanted.status in (None, view.status)
        and (wanted.before is None or _place(page) < wanted.before)
    )
