"""What a gateway's process keeps in memory: the sessions it met and the turns it accepted, bounded.

Everything here is in the read model too, or on its way there by the log; losing it costs one SQL read each.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.gateway.ports import TurnKey
from services.gateway.views import Closing, SessionPage, TurnView
from shared.session.key import SessionKey

_K = TypeVar("_K")
_V = TypeVar("_V")

# About 400 bytes each: 40 MB when full, and a gateway that meets more sessions asks SQL again.
MAX_KNOWN = 100_000


class Bounded(Generic[_K, _V]):
    """A map of the `size` newest entries; the oldest goes when one more comes."""

    def __init__(self, size: int) -> None:
        self._size = size
        # A plain dict finds its oldest entry by passing all that went before it.
        self._items: OrderedDict[_K, _V] = OrderedDict()

    def get(self, key: _K) -> _V | None:
        return self._items.get(key)

    def put(self, key: _K, value: _V) -> None:
        items = self._items
        items[key] = value
        items.move_to_end(key)
        if len(items) > self._size:
            items.popitem(last=False)

    def pop(self, key: _K) -> None:
        self._items.pop(key, None)

    def __len__(self) -> int:
        return len(self._items)


@dataclass(frozen=True, slots=True)
class Known:
    """What accepting a turn needs to know of its session. `closed` says why no turn is taken."""

    user_id: str
    agent: str | None = None
    mode: str = "interactive"
    closed: Closing | None = None


def known(page: SessionPage) -> Known:
    """The part of a session's row that accepting turns needs."""
    view = page.view
    closed: Closing | None = page.closing
    if view.status == "erased":
        closed = "erase"
    elif view.closed:
        closed = closed or "archive"
    return Known(user_id=view.user_id, agent=view.agent, mode=view.mode, closed=closed)


class Register:
    """Sessions and accepted turns of this process. Not safe for threads: one event loop owns it."""

    def __init__(self, size: int = MAX_KNOWN) -> None:
        self._sessions: Bounded[SessionKey, Known] = Bounded(size)
        self._turns: Bounded[TurnKey, TurnView] = Bounded(size)

    def session(self, key: SessionKey) -> Known | None:
        return self._sessions.get(key)

    def meet(self, key: SessionKey, session: Known) -> None:
        self._sessions.put(key, session)

    def close(self, key: SessionKey, why: Closing) -> None:
        """No more turns from now on; a session not known here is read with its mark later."""
        session = self._sessions.get(key)
        if session is not None and session.closed != "erase":
            closed = Known(session.user_id, session.agent, session.mode, why)
            self._sessions.put(key, closed)

    def turn(self, key: TurnKey) -> TurnView | None:
        return self._turns.get(key)

    def accept(self, key: TurnKey, turn: TurnView) -> None:
        self._turns.put(key, turn)

    def hear(self, key: SessionKey, event_type: str, *, resumable: bool = False) -> None:
        """Take note of a recorded event that closed a session, whichever gateway was asked for it; one that is
        archived and `resumable` takes turns."""
        if event_type == "session.archived" and not resumable:
            self.close(key, "archive")
        elif event_type == "session.erased":
            self.close(key, "erase")
