"""What the worker depends on, on one page. Adapters and drivers implement it; fakes do too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import replace

from shared.ownership import Binding
from shared.session.caps import Cap, Refusal, Spender
from shared.session.commands import AnyCommand, DeadLetter
from shared.session.events import Event
from shared.session.inputs import Filed, ProviderEvent, read_request
from shared.session.key import SessionKey
from shared.session.references import Reference
from shared.session.releases import Release
from shared.session.state import SessionState


class InputRecord(Struct, frozen=True):
    """A Kafka record, as far as it matters here. `source` is `topic/partition/offset`, `received_at` when it
    came by a clock of ours ("": nobody says)."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    source: str
    received_at: str = ""


class InputConsumer(Protocol):
    """The inputs topic, as a group member sees it."""

    async def batch(self) -> Sequence[InputRecord]:
        """The next records, waiting for at least one."""
        ...

    async def commit(self) -> None:
        """What `batch` gave last is dealt with, and is not given again once that is committed: soon, at the latest
        when this member leaves. Does nothing once the partitions went elsewhere."""
        ...

    async def leave(self) -> None:
        """Read no more: what was not committed is for the other members of the group. `batch` joins it again."""
        ...


class NewInput(Struct, frozen=True):
    """A valid request on its way into the inbox. `body` is the record's value; `input_id` unique per session.

    `received_at`: see Filed. `formerly` is the id under which an earlier version may have filed it, "" for none.
    `references`: what it names at the provider.
    """

    key: SessionKey
    input_id: str
    kind: str
    body: bytes
    traceparent: str = ""
    received_at: str = ""
    formerly: str = ""
    references: tuple[Reference, ...] = ()

    def repeats(self, kind: str, body: bytes) -> bool:
        """Whether an input of that kind and body asks for the same, whenever it was asked."""
        if kind != self.kind:
            return False
        mine, other = read_request(self.kind, self.body), read_request(kind, body)
        return replace(mine, at="") == replace(other, at="")


def filed_of(row: Any) -> Filed:
    """The input that an inbox row holds, or anything else with its columns as attributes: a NewInput."""
    return Filed(
        input_id=row.input_id,
        request=read_request(row.kind, row.body),
        traceparent=row.traceparent,
        received_at=row.received_at,
    )


class Head(Struct, frozen=True, kw_only=True):
    """A claimed session's row. `epoch` fences: a write under a lower one than the row's fails.

    `position` is the inbox position up to which inputs were taken in, `taken` how many that were. `unsaid` are
    events written but maybe not published; `todo` commands journaled but maybe not performed.
    """

    key: SessionKey
    epoch: int
    version: int
    state: SessionState
    unsaid: tuple[Event, ...] = ()
    todo: tuple[AnyCommand, ...] = ()
    position: int = 0
    taken: int = 0


class Money(Struct, frozen=True, kw_only=True):
    """What a write does besides, for a session that caps count for. `reserve` and `release` are turns: one whose
    message goes out next, and one that has ended. `least` is reserved at least, in millionths of a US dollar."""

    spender: Spender
    caps: tuple[Cap, ...]
    reserve: str | None = None
    release: str | None = None
    least: int = 0


class CapReached(Exception):
    """A turn may not begin: of a cap too little is left. `words` are for the client."""

    def __init__(self, turn_id: str, refusal: Refusal, words: str) -> None:
        super().__init__(words)
        self.turn_id = turn_id
        self.refusal = refusal
        self.words = words


class Caps(Protocol):
    """Which caps there are, as far as this worker knows: without a look at the database."""

    def of(self, spender: Spender) -> tuple[Cap, ...]:
        """The caps that turns of this spender count against."""
        ...


class Unread(Struct, frozen=True):
    """An input and its place in the session's inbox."""

    position: int
    filed: Filed


class LeaseStore(Protocol):
    """The part of the Store that keeps leases."""

    async def extend(self, owner: str, lease_seconds: float) -> Mapping[SessionKey, int]:
        """Extend all leases of `owner`; returns the epochs of the sessions that are still its own."""
        ...


class Store(LeaseStore, Protocol):
    """Head rows and inbox. Every method raises Transient while the database is away."""

    async def file(self, inputs: Sequence[NewInput]) -> set[SessionKey]:
        """File inputs, each id once for ever, and make their sessions due; returns the sessions with news. One
        transaction: all or nothing. A session's inputs become readable in the order of their positions. One that
        repeats what was filed as its `formerly` is no news."""
        ...

    async def claim(self, owner: str, limit: int, lease_seconds: float) -> list[Head]:
        """Take up to `limit` due sessions under a lease and a raised epoch. Two claims never share one."""
        ...

    async def let_go(self, owner: str, keys: Collection[SessionKey], after_seconds: float) -> None:
        """Give the leases of `owner` on these back and write nothing else; they are due after `after_seconds`."""
        ...

    async def with_news(self, owner: str) -> set[SessionKey]:
        """The sessions leased by `owner` that have inputs not taken in yet."""
        ...

    async def unread(self, key: SessionKey, after: int) -> list[Unread]:
        """Inputs filed after inbox position `after`, in the order they were filed."""
        ...

    async def read(self, key: SessionKey, input_id: str) -> Filed:
        """One input, whenever it was filed. Raises KeyError when there is none."""
        ...

    async def write(self, head: Head, money: Money | None = None) -> Head:
        """Compare-and-set the row to `head`; returns it with its next version. Raises Fenced when the epoch or the
        version is not the row's any more: nothing was written then. With `money` all that it says is done in the
        same transaction; raises CapReached when the turn can't be paid, and nothing was written."""
        ...

    async def take_in(self, head: Head, inputs: Sequence[NewInput]) -> Head | None:
        """File inputs of the session of `head`, and write `head`, whose `taken` counts them already, in the same
        transaction; returns it with its next version and its new position.

        None, and the row has the inputs and nothing else, when the row is not what it was or these are not all that
        is new: one was filed before, or another was that is not taken in. A store may say so too of a head
        that adds to the ledger.
        """
        ...

    async def release(self, head: Head, due_at: str | None) -> None:
        """Write `head` and give the lease back; the session is due at `due_at` (RFC 3339, None: not by itself), at
        once when inputs came meanwhile. Raises Fenced."""
        ...

    async def erase(self, head: Head, due_at: str | None) -> None:
        """Release, and forget every input that `head` has taken in, in one transaction. Raises Fenced."""
        ...


class DueSessions(Protocol):
    """All sessions there are, whoever drives them."""

    async def due(self) -> int:
        """How many have something to do and no driver. Raises Transient."""
        ...


class Publisher(Protocol):
    """Says what happened. Returns only once the log has it (acks=all); waits while the log is away."""

    async def say(self, events: Sequence[Event], parent_of: Callable[[Event], str]) -> None:
        """Publish events of one session, in order; `parent_of` gives the traceparent a record carries."""
        ...

    def preview(self, state: SessionState, raw: bytes, turn_id: str | None) -> None:
        """Hand on a token delta, best effort: never waits, never fails."""
        ...

    async def bury(self, key: SessionKey, filed: Filed, why: DeadLetter) -> None:
        """Put an input that its session refused into the dead letters."""
        ...


class ProviderSession(Struct, frozen=True):
    """A conversation at the provider, and the agent it was made with; `version` 0: the provider did not say."""

    id: str
    agent: str
    model: str
    version: int = 0


class ProviderFailure(Exception):
    """The provider did not do what was asked, and certainly or probably did not start to.

    `reason` is a stable word. `final`: trying again is useless. `lost`: the provider session is gone.
    `retry_after`: the provider's wish in seconds.
    """

    def __init__(
        self,
        reason: str,
        detail: str,
        *,
        final: bool = False,
        lost: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.final = final
        self.lost = lost
        self.retry_after = retry_after


class ProviderFeed(Protocol):
    """The provider's events of one session while it is watched."""

    async def opened(self) -> None:
        """Wait until events are listened for, so that none of what is sent next can be missed."""
        ...

    async def next(self) -> tuple[ProviderEvent, ...]:
        """The next events, at least one, none twice. All that come before an idle were given before or with it.
        Raises ProviderFailure when the session is gone."""
        ...


class Provider(Protocol):
    """Drives sessions of the Managed Agents API. Every method raises ProviderFailure."""

    async def open(self, state: SessionState, *, look: bool) -> ProviderSession:
        """Make a provider session for the session; with `look`, adopt one that an earlier try has made and
        the session has not given up."""
        ...

    async def send(self, state: SessionState, content: Any, *, look: bool) -> None:
        """Put a user message into the session, once: an outcome that is not known is looked up before failing.
        With `look`, a message that an earlier try has sent counts."""
        ...

    async def interrupt(self, state: SessionState) -> None:
        """Stop what runs; nothing happens when nothing does."""
        ...

    async def answer(self, state: SessionState, request: Any) -> None:
        """Give a ToolConfirmed or ToolAnswered to the call that waits; an answered call is left alone."""
        ...

    async def set_budget(self, provider_session_id: str, cents: int) -> None:
        """Let the provider session spend so many US cents since it began; one that may already is left alone."""
        ...

    async def close(self, provider_session_id: str, *, erase: bool) -> None:
        """Archive, and delete when `erase`; a session that is gone counts as closed."""
        ...

    def watch(
        self,
        state: SessionState,
        *,
        fresh: bool,
        on_preview: Callable[[bytes], None],
    ) -> AbstractAsyncContextManager[ProviderFeed]:
        """Listen to the session and its child threads. Known events (`state.tail`) are left out; `fresh` says the
        session was just made and has no past to list."""
        ...


class Entry(Struct, frozen=True, kw_only=True):
    """One entry of a conversation that is kept here, `position` counted from 0. No two have the same `source`.
    `event` is in the provider's shape, `said` what of it goes to the model; both are JSON, empty for nothing."""

    position: int
    source: str
    event: bytes = b""
    said: bytes = b""


class Conversations(Protocol):
    """Conversations on the Messages API. Every method raises Transient while the database is away."""

    async def open(self, key: SessionKey, conversation: str, first: Entry) -> Entry:
        """Begin a conversation of a session with this entry; returns the first entry, whoever began it."""
        ...

    async def append(self, conversation: str, entries: Sequence[Entry]) -> bool:
        """Add what follows its newest entry, all or nothing. False, and nothing is added, when the newest entry is
        another one, or there is no such conversation."""
        ...

    async def read(self, conversation: str, after: int = -1) -> list[Entry]:
        """Its entries behind that position, in order; none of one that is not there."""
        ...

    async def forget(self, conversation: str) -> None:
        """Delete it."""
        ...


class Profiles(Protocol):
    """What the gateway keeps of users."""

    async def of(self, tenant_id: str, user_id: str) -> str:
        """The user's preferences and facts as JSON in one line, "" when there are none. Raises Transient while the
        database is away."""
        ...


class Releases(Protocol):
    """Which versions of agents sessions get that name an agent by its release."""

    async def of(self, tenant_id: str, name: str) -> Release | None:
        """The tenant's own release of that name, else everybody's; None when there is neither. Raises Transient
        while the database is away."""
        ...


class DefaultVaults(Protocol):
    """Vaults that were made for sessions which name none."""

    async def of(self, tenant_id: str, project: str, user_id: str) -> Sequence[Binding]:
        """The tenant's vaults that are for all, for this project or for this user. Raises Transient while the
        database is away."""
        ...


class Grant(Struct, frozen=True):
    """What was given of what was asked, by lane. `wait`: seconds until a lane that got too little may get more;
    `paused`: for how many seconds lanes get nothing."""

    given: Mapping[str, int]
    wait: float = 0.0
    paused: Mapping[str, float] = {}


class Tokens(Protocol):
    """The account of what all workers together may ask of the provider, for one limit."""

    async def take(self, asks: Mapping[str, int], pauses: Mapping[str, float]) -> Grant:
        """Pause lanes for that many seconds, then take up to so many tokens for each lane. Two takes never get the
        same token. Raises Transient while the database is away."""
        ...


class Marked(Struct, frozen=True):
    """A living provider session that carries the mark of a session; `created_at` is RFC 3339."""

    id: str
    key: SessionKey
    created_at: str


class Bound(Struct, frozen=True):
    """What a head row says: the provider session it uses ("": none), whether a turn is open, and whether
    the session was erased."""

    to: str
    working: bool
    erased: bool = False


class MarkedSessions(Protocol):
    """The provider, as far as the sweep needs it. Raises ProviderFailure."""

    def marked(self, since: datetime) -> AsyncIterator[list[Marked]]:
        """Pages of what was made since then, newest first."""
        ...

    async def archive(self, provider_session_id: str, *, erase: bool) -> None:
        """Archive a session, and delete it when `erase`; one that is gone counts as archived. Raises
        ProviderFailure, a `final` one when this session can't be archived as it is now (it runs)."""
        ...


class Bindings(Protocol):
    """The head rows, as far as the sweep needs them. Raises Transient."""

    async def of(self, keys: Collection[SessionKey]) -> Mapping[SessionKey, Bound]:
        """What the rows of these sessions say; those without a row are left out."""
        ...

    def alone(self) -> AbstractAsyncContextManager[bool]:
        """Whether this worker is the only one that sweeps until the context ends."""
        ...
