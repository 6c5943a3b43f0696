"""What the gateway depends on. Owned here; implemented in `adapters`.

Every call is bounded in time by its adapter and raises `shared.errors.Transient` when its part does not answer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from services.gateway.event_stream import message
from services.gateway.vault_bodies import CredentialView, NewCredential, Rotation, Validation
from services.gateway.views import ProfileView, SessionPage, TurnView
from shared.bus.envelope import Envelope
from shared.costs import CostRow, Wanted
from shared.ownership import Binding, Owners, Thing
from shared.session.key import SessionKey
from shared.session.references import Kind
from shared.session.releases import Release
from shared.session.state import SessionState

TurnKey = tuple[str, str, str]  # tenant, session, turn
# Tenant, session (none for the opening of one), and a key's digest.
Claim = tuple[str, str, str]
# Tenant, user, and which of the user's sessions (`reuse.Reuse.scope`).
UserScope = tuple[str, str, str]


@dataclass(slots=True)
class Record:
    """A record as it came from a topic. `received_at`: when an input came, by a clock of ours ("": nobody says)."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: Sequence[tuple[str, bytes]]
    received_at: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A recorded event on its way to a client: `value` is the event's JSON."""

    seq: int
    type: str
    at: str
    value: bytes

    @property
    def count(self) -> int:
        """How many events this is."""
        return 1

    @property
    def record(self) -> bytes:
        """As a stream has it."""
        return message(self.type, self.value, self.seq)

    def tells(self, types: Iterable[str]) -> bool:
        """Whether it is of one of these types."""
        return self.type in types


@dataclass(frozen=True, slots=True)
class Stretch:
    """`count` events of a session that follow one another, on their way to a stream: `record` is their records.
    `seq`, `type` and `at` are those of the last one."""

    count: int
    seq: int
    type: str
    at: str
    record: bytes

    def tells(self, types: Iterable[str]) -> bool:
        """Whether one of them is of one of these types."""
        if self.count == 1:
            return self.type in types
        return any(b"\nevent: %b\n" % type.encode() in self.record for type in types)


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session's row: what is shown of it, and the core's state that it was made of, if that is known.

    The state may be behind the page (`behind`): of a row that an older build wrote or went on with, and of one that
    is missing events. Such a page is not moved on by events, beyond its `last_seq`, until the events were folded.
    """

    page: SessionPage
    state: SessionState | None = None

    @property
    def folded(self) -> int:
        """The number of the newest event that the state knows."""
        return self.state.last_seq if self.state else 0

    @property
    def behind(self) -> bool:
        """Whether there are events that the state does not know."""
        return self.folded < self.page.view.last_seq


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """A turn's row: `seq` is the number of the event it shows, 0 before the first."""

    view: TurnView
    seq: int = 0


@dataclass(slots=True)
class Changes:
    """What one batch of records makes of the read model; `forgotten` are sessions whose turns are dropped."""

    sessions: dict[SessionKey, StoredSession] = field(default_factory=dict)
    turns: dict[TurnKey, StoredTurn] = field(default_factory=dict)
    forgotten: set[SessionKey] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions of one tenant; `before` is (created_at, session_id) of the last one seen, newest first."""

    tenant_id: str
    user_id: str | None = None
    status: str | None = None
    limit: int = 50
    before: tuple[str, str] | None = None


class InputPublisher(Protocol):
    """`turnstile.inputs.v1`, written to."""

    async def publish(self, envelope: Envelope, value: bytes) -> None:
        """Return when the record is safe on all replicas; the key is the envelope's subject.

        Raises Transient (`kafka_unavailable`) after 5 s at most; the record may have landed all the same.
        """

    async def check(self) -> None:
        """Raise Transient when the log does not answer."""


class ReadModel(Protocol):
    """The gateway's own tables."""

    async def session(self, key: SessionKey) -> SessionPage | None: ...

    async def turn(self, key: TurnKey) -> TurnView | None: ...

    async def sessions(self, wanted: SessionFilter) -> Sequence[SessionPage]:
        """Newest first, at most `limit`."""

    async def load(self, sessions: Iterable[SessionKey]) -> Mapping[SessionKey, StoredSession]:
        """Those that exist."""

    async def behind(self, after: SessionKey, limit: int) -> Sequence[SessionKey]:
        """Sessions whose state does not know all their events, in order of key, beyond `after`, at most `limit`."""

    async def open(self, page: SessionPage) -> SessionPage:
        """Insert the session unless it exists; its row as it stands then."""

    async def save(self, changes: Changes) -> None:
        """Write the changes in one transaction; a row that is further on (`last_seq`, `seq`) stays, and so does a
        state that knows more, and any row of a turn that no event was seen of."""

    async def claim(self, wanted: Mapping[Claim, str]) -> Mapping[Claim, str]:
        """What each key stands for from now on: what was wanted first, by whichever process, as long as the session
        is not forgotten. Committed when it returns. All or nothing."""

    async def claimed(self, key: Claim) -> str | None:
        """What the key stands for; None when nobody claimed it."""

    async def check(self) -> None:
        """Raise Transient when the database does not answer."""


class UserSessions(Protocol):
    """The session that each user goes on with: one for a scope, agreed by all gateways."""

    async def held(self, scope: UserScope) -> str | None:
        """The session's id; "" when the last one was closed on request, None before there was one."""

    async def hold(self, scope: UserScope, instead_of: str | None, wanted: str) -> str:
        """Compare-and-set: the scope has `wanted` from now on if what it had is `instead_of`; what it has then,
        committed when this returns."""

    async def opened(self, scope: UserScope, session_id: str) -> bool:
        """Whether the scope has this session and nobody was told so before."""

    async def end(self, session: SessionKey) -> None:
        """Nobody goes on with this session."""


class ProfileStore(Protocol):
    """What is kept of users; agent-workers read it when they open a provider session."""

    async def profile(self, tenant_id: str, user_id: str) -> ProfileView | None: ...

    async def put_profile(self, tenant_id: str, profile: ProfileView) -> None:
        """Write it in place of what was kept; committed when this returns. An empty one is not kept."""


class ReleaseStore(Protocol):
    """Releases of agents, which the operator writes."""

    async def releases(self, tenant_id: str) -> Sequence[Release]:
        """The tenant's own, and those of everybody (`tenant_id` "")."""


class Bindings(Owners, Protocol):
    """Whose the provider's things are, and for what. Raises Transient."""

    async def binding(self, thing: Thing) -> Binding | None: ...

    async def of_tenant(
        self, tenant_id: str, kind: Kind, after: str, limit: int
    ) -> Sequence[Binding]:
        """In order of id, beyond `after`, at most `limit`."""

    async def unbind(self, thing: Thing) -> None:
        """It is nobody's: it is no more."""


class Vaults(Protocol):
    """Vaults at the provider. Raises Rejected (`unknown_vault`, `unknown_credential`, `credential_exists`,
    `refused_by_provider`) or Transient (`provider_unavailable`); nothing raised holds a part of a secret."""

    async def create(self, tenant_id: str, display_name: str) -> str:
        """A new vault's id."""

    async def delete(self, vault_id: str) -> None:
        """With its credentials; one that is gone counts as deleted."""

    async def add(self, vault_id: str, asked: NewCredential) -> CredentialView: ...

    async def credentials(self, vault_id: str) -> list[CredentialView]: ...

    async def rotate(
        self, vault_id: str, credential_id: str, asked: Rotation
    ) -> CredentialView: ...

    async def remove(self, vault_id: str, credential_id: str) -> None: ...

    async def validate(self, vault_id: str, credential_id: str) -> Validation: ...

    async def put(self, vault_id: str, asked: NewCredential) -> CredentialView:
        """Add an OAuth credential, or put it in the place of the one that the vault has for its server: the same
        credential with other tokens where they are the same client's, another one otherwise."""


class EventArchive(Protocol):
    """The view `events` in ClickHouse."""

    async def page(self, key: SessionKey, after: int, limit: int) -> Sequence[Entry]:
        """Events `after` + 1 to `after` + `limit` in order of seq, fewer when they are large; holes are possible
        while rows arrive."""

    def stretches(self, key: SessionKey, after: int, until: int) -> AsyncGenerator[Stretch, None]:
        """Events `after` + 1 to `until` in order, up to the first that is missing or can only be had in a page.

        What is asked of ClickHouse ends when the generator is closed, and while nobody takes what was read.
        """

    async def check(self) -> None:
        """Raise Transient when ClickHouse does not answer."""


class CostArchive(Protocol):
    """The view `cost_facts` in ClickHouse."""

    async def costs(self, wanted: Wanted) -> Sequence[CostRow]:
        """What was paid for. Raises Transient when ClickHouse does not answer."""


class EventLog(Protocol):
    """`turnstile.events.v1`, read back."""

    def scan(self, key: SessionKey, since: datetime, after: int) -> AsyncGenerator[Entry, None]:
        """Events of one session with seq > `after` published at or after `since`, up to the log's end at the call.

        In the order of the log, repeats included. Costs a read of the session's partition from `since` on.
        """


class RecordConsumer(Protocol):
    """A consumer whose offsets this process commits."""

    async def batch(self, timeout: float) -> Sequence[Record]:
        """The next records, or none after `timeout` seconds."""

    async def commit(self) -> None:
        """Remember that every record handed out so far is dealt with."""

    async def rewind(self) -> None:
        """Hand out again whatever was not committed."""
