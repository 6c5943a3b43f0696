"""What a store of sessions must be able to do: the port, and what goes through it.

A session is a head (version, JSON state, user, expiry) and numbered JSON events. Its version is the `seq` of its
last event. Every time is a number of milliseconds since 1970, every JSON value a text: `store.py` knows what they
mean, so that each implementation holds no rule but how its database keeps promises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from shared.errors import TurnstileError

Role = Literal["state", "history"]
# What `heads` leaves out: states may be large, and nobody lists sessions to read them.
NO_STATE = ""


class Conflict(TurnstileError):
    """Somebody else wrote first: load again and decide anew. `found` is the version that stands there now."""

    def __init__(self, what: str, expected: int, found: int) -> None:
        super().__init__(f"{what} is at version {found}, not {expected}: load it again")
        self.expected = expected
        self.found = found


@dataclass(frozen=True, slots=True)
class Head:
    """A session as it stands, without its events."""

    session: str
    version: int
    user: str
    state: str
    created_ms: int
    updated_ms: int
    expires_ms: int | None


@dataclass(frozen=True, slots=True)
class Line:
    """One event as it is kept. `append_id` names the append that brought it; `text` may be damaged."""

    seq: int
    append_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Append:
    """A new head and the events that lead to it from version `expected`: kept whole, or not at all."""

    head: Head
    expected: int
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class KeptProfile:
    version: int
    text: str


@dataclass(frozen=True, slots=True)
class Aside:
    """A damaged record that was set aside: `seq` 0 is the session's state."""

    session: str
    seq: int
    reason: str
    at_ms: int
    text: str


@dataclass(frozen=True, slots=True)
class About:
    """What an implementation is: the roles it may have, and the promises it can't keep, each a sentence."""

    name: str
    roles: frozenset[Role]
    cannot: tuple[str, ...]


class Backend(Protocol):
    """One database. Methods raise what its client raises; those of `away` mean that it may answer later."""

    about: About
    away: tuple[type[BaseException], ...]

    async def start(self) -> None:
        """Make what is missing (tables, folders). Raises Rejected when a promise can't be kept as it is set up."""

    async def head(self, session: str) -> Head | None: ...

    async def write(self, append: Append) -> bool:
        """Write it if the session is at version `expected` (0: not there). Returns False, having changed nothing,
        when it is not. True means that it outlives the end of every process."""

    async def lines(self, session: str, after: int, limit: int) -> Sequence[Line]:
        """Events with a greater `seq` than `after`, by `seq`."""

    async def heads(self, user: str | None, prefix: str, after: str, limit: int) -> Sequence[Head]:
        """Sessions of `user` (None: of all) whose ids begin with `prefix` and come after `after`, in byte order,
        with NO_STATE."""

    async def remove(self, session: str, version: int) -> bool:
        """Remove the session with all that is kept of it, if it is at `version`."""

    async def due(self, before_ms: int, limit: int) -> Sequence[tuple[str, int]]:
        """Session and version of some that expire at `before_ms` or earlier."""

    async def profile(self, user: str) -> KeptProfile | None: ...

    async def write_profile(self, user: str, text: str | None, expected: int) -> bool:
        """Write (None: remove) the profile if it is at version `expected` (0: not there); its version is then one
        more."""

    async def set_aside(self, aside: Aside) -> None:
        """Note a damaged record; once for each session and `seq`."""

    async def aside(self, session: str, limit: int) -> Sequence[Aside]: ...

    async def close(self) -> None: ...
