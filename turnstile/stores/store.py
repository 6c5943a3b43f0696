"""A store of sessions: state, history and profiles, on any of the databases. The rules are here, once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import msgspec

from shared.clock import Clock, utcnow
from shared.errors import Rejected, Transient
from turnstile.stores.port import Append, Aside, Backend, Conflict, Head, Line

Json = dict[str, Any]
ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
MOST_EVENTS = 1_000
MOST_BYTES = 4 * 1024 * 1024
MOST_IN_A_PAGE = 1_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Session:
    """A session as it was loaded. `lost` says why its state could not be read; it is empty then, and can be made
    again from the history."""

    session: str
    version: int
    user: str
    state: Json
    expires_at: datetime | None
    lost: str = ""


@dataclass(frozen=True, slots=True)
class Listed:
    session: str
    version: int
    user: str
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Event:
    seq: int
    event: Json


@dataclass(frozen=True, slots=True)
class Damaged:
    """An event that can't be read, and why; the record itself stays where it is."""

    seq: int
    reason: str


@dataclass(frozen=True, slots=True)
class History:
    """A page of events. `next_after` is where the next one begins, None at the end."""

    events: tuple[Event, ...]
    damaged: tuple[Damaged, ...]
    next_after: int | None


@dataclass(frozen=True, slots=True)
class Sessions:
    """A page of sessions, in byte order of their ids. `next_after` is where the next begins, None at the end."""

    sessions: tuple[Listed, ...]
    next_after: str | None


@dataclass(frozen=True, slots=True)
class Profile:
    user: str
    version: int
    profile: Json


class SessionStore:
    """Sessions in one database. Every method raises Transient("store_away") when the database does not answer
    within `timeout` seconds, Rejected when an argument can't be taken, and nothing else on purpose but Conflict.

    After Transient an append may have landed or not: repeat it with the same `append_id`.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        timeout: float,
        clock: Clock = utcnow,
        new_id: Callable[[], str] = lambda: uuid4().hex,
    ) -> None:
        self.backend = backend
        self._timeout = timeout
        self._clock = clock
        self._new_id = new_id

    async def start(self) -> None:
        async with self._answering("start"):
            await self.backend.start()

    async def load(self, session: str) -> Session | None:
        """The session's state and version; None when there is none, or it has expired."""
        head = await self._head(_id(session, "session"))
        if head is None or self._expired(head):
            return None
        return await self._loaded(head)

    async def append(
        self,
        session: str,
        events: Sequence[Json],
        *,
        expected_version: int,
        state: Json | None = None,
        user: str = "",
        expires_at: datetime | None = None,
        append_id: str | None = None,
    ) -> int:
        """Add events to a session at `expected_version` (0: make it); returns its new version.

        All events are kept and `state` (None: as it was) with them, or nothing is. `user` counts when the session
        is made; `expires_at` holds from now on (None: never). Raises Conflict when the session is at another
        version, unless `append_id` is that of the append which brought it from `expected_version` further: that one
        has landed before, and its version is returned.
        """
        append = self._append(
            session, events, expected_version, state, user, expires_at, append_id or self._new_id()
        )
        if await self._write(append):
            return append.head.version
        lines = await self._lines(session, expected_version, 1)
        if lines and lines[0].append_id == append.lines[0].append_id:
            return append.head.version
        head = await self._head(session)
        if expected_version == 0 and head is not None and self._expired(head):
            await self._remove(session, head.version)
            if await self._write(append):
                return append.head.version
            head = await self._head(session)
        raise Conflict(f"session {session}", expected_version, head.version if head else 0)

    async def history(self, session: str, *, after: int = 0, limit: int = 200) -> History:
        """Events with a greater `seq` than `after`. One that can't be read is set aside under a reason, once, and
        the others go on."""
        _limit(limit)
        head = await self._head(_id(session, "session"))
        if head is None or self._expired(head):
            return History((), (), None)
        last = min(head.version, after + limit)
        # Events that came since the head was read are left to the next page.
        found = {line.seq: line for line in await self._lines(session, after, limit)}
        events: list[Event] = []
        damaged: list[Damaged] = []
        for seq in range(after + 1, last + 1):
            line = found.get(seq)
            value = _object(line.text) if line else "missing"
            if isinstance(value, str):
                damaged.append(Damaged(seq, value))
                await self._set_aside(session, seq, value, line.text if line else "")
            else:
                events.append(Event(seq, value))
        return History(tuple(events), tuple(damaged), last if last < head.version else None)

    async def sessions(
        self, *, user: str | None = None, prefix: str = "", after: str = "", limit: int = 200
    ) -> Sessions:
        """Sessions of `user` (None: of all) whose ids begin with `prefix`; those that have expired are left out."""
        _limit(limit)
        if user:
            _id(user, "user")
        if prefix:
            _id(prefix, "prefix")
        async with self._answering("sessions"):
            heads = await self.backend.heads(user, prefix, after, limit)
        rows = tuple(_listed(head) for head in heads if not self._expired(head))
        return Sessions(rows, heads[-1].session if len(heads) == limit else None)

    async def delete(self, session: str) -> bool:
        """Remove a session and all that is kept of it, what was set aside too; False when there is none."""
        while (head := await self._head(_id(session, "session"))) is not None:
            if await self._remove(session, head.version):
                return True
        return False

    async def remove_expired(self, *, limit: int = 200) -> int:
        """Remove up to `limit` sessions that have expired; returns how many were. Call it now and then."""
        async with self._answering("due"):
            due = await self.backend.due(_ms(self._clock()), limit)
        return sum([await self._remove(session, version) for session, version in due])

    async def profile(self, user: str) -> Profile | None:
        """What is kept of a user beyond sessions. One that can't be read counts as empty, at its version."""
        async with self._answering("profile"):
            kept = await self.backend.profile(_id(user, "user"))
        if kept is None:
            return None
        value = _object(kept.text)
        return Profile(user, kept.version, {} if isinstance(value, str) else value)

    async def put_profile(self, user: str, profile: Json | None, *, expected_version: int) -> int:
        """Write a profile at `expected_version` (0: make it; None: remove it); returns its new version, 0 when it
        was removed. Raises Conflict when it is at another version."""
        text = None if profile is None else _text(profile, "profile")
        async with self._answering("put_profile"):
            written = await self.backend.write_profile(_id(user, "user"), text, expected_version)
        if written:
            return 0 if text is None else expected_version + 1
        found = await self.profile(user)
        raise Conflict(f"profile of {user}", expected_version, found.version if found else 0)

    async def quarantined(self, session: str, *, limit: int = 200) -> Sequence[Aside]:
        """What was set aside of a session, as it was found."""
        async with self._answering("quarantined"):
            return await self.backend.aside(_id(session, "session"), _limit(limit))

    async def close(self) -> None:
        await self.backend.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.close()

    def _append(
        self,
        session: str,
        events: Sequence[Json],
        expected: int,
        state: Json | None,
        user: str,
        expires_at: datetime | None,
        append_id: str,
    ) -> Append:
        if not 1 <= len(events) <= MOST_EVENTS:
            raise Rejected("bad_append", f"an append has 1 to {MOST_EVENTS} events", field="events")
        if expected < 0:
            raise Rejected("bad_append", "a version is 0 or more", field="expected_version")
        _id(append_id, "append_id")
        texts = [_text(event, "events") for event in events]
        if sum(map(len, texts)) > MOST_BYTES:
            raise Rejected("too_large", f"an append has at most {MOST_BYTES} bytes", field="events")
        now = _ms(self._clock())
        head = Head(
            session=_id(session, "session"),
            version=expected + len(events),
            user=_id(user, "user") if user else "",
            state=_text(state, "state") if state is not None else "" if expected else "{}",
            created_ms=now,
            updated_ms=now,
            expires_ms=None if expires_at is None else _ms(expires_at),
        )
        numbered = enumerate(texts, expected + 1)
        return Append(head, expected, tuple(Line(seq, append_id, text) for seq, text in numbered))

    async def _loaded(self, head: Head) -> Session:
        value = _object(head.state)
        expires = None if head.expires_ms is None else _time(head.expires_ms)
        if not isinstance(value, str):
            return Session(head.session, head.version, head.user, value, expires)
        await self._set_aside(head.session, 0, value, head.state)
        return Session(head.session, head.version, head.user, {}, expires, value)

    async def _head(self, session: str) -> Head | None:
        async with self._answering("load"):
            return await self.backend.head(session)

    async def _write(self, append: Append) -> bool:
        async with self._answering("append"):
            return await self.backend.write(append)

    async def _lines(self, session: str, after: int, limit: int) -> Sequence[Line]:
        async with self._answering("history"):
            return await self.backend.lines(session, after, limit)

    async def _remove(self, session: str, version: int) -> bool:
        async with self._answering("delete"):
            return await self.backend.remove(session, version)

    async def _set_aside(self, session: str, seq: int, reason: str, text: str) -> None:
        aside = Aside(session, seq, reason, _ms(self._clock()), text)
        async with self._answering("quarantine"):
            await self.backend.set_aside(aside)

    def _expired(self, head: Head) -> bool:
        return head.expires_ms is not None and head.expires_ms <= _ms(self._clock())

    @asynccontextmanager
    async def _answering(self, doing: str) -> AsyncIterator[None]:
        """What the database's client raises becomes Transient where it may pass."""
        name = self.backend.about.name
        try:
            async with asyncio.timeout(self._timeout):
                yield
        except TimeoutError:
            why = f"{name} did not answer within {self._timeout:g} s ({doing})"
            raise Transient("store_away", why) from None
        except self.backend.away as error:
            # The client's own words may hold the address with its password, or what was written.
            why = f"{name} is away ({doing}): {type(error).__name__}"
            raise Transient("store_away", why) from error


def _id(value: str, field: str) -> str:
    if not ID.fullmatch(value):
        raise Rejected("bad_id", f"{field}: 1 to 128 of A-Z a-z 0-9 . _ : -", field=field)
    return value


def _limit(value: int) -> int:
    if not 1 <= value <= MOST_IN_A_PAGE:
        raise Rejected("bad_limit", f"limit: 1 to {MOST_IN_A_PAGE}", field="limit")
    return value


def _text(value: Json, field: str) -> str:
    try:
        raw = _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise Rejected("not_json", f"{field}: not JSON: {error}", field=field) from None
    if len(raw) > MOST_BYTES:
        raise Rejected("too_large", f"{field}: at most {MOST_BYTES} bytes", field=field)
    if not raw.startswith(b"{"):
        raise Rejected("not_json", f"{field}: must be a JSON object", field=field)
    return raw.decode()


def _object(text: str) -> Json | str:
    """The JSON object, or why it is none."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return "not_json"
    return value if isinstance(value, dict) else "not_an_object"


def _listed(head: Head) -> Listed:
    return Listed(
        head.session,
        head.version,
        head.user,
        _time(head.created_ms),
        _time(head.updated_ms),
        None if head.expires_ms is None else _time(head.expires_ms),
    )


def _ms(at: datetime) -> int:
    if at.tzinfo is None:
        raise Rejected("bad_time", "a time needs its time zone", field="expires_at")
    return (at - EPOCH) // timedelta(milliseconds=1)


def _time(ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=ms)
