"""Workers that are broken on purpose: what holds the worker to its laws has to find each of them out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from msgspec.structs import replace

from services.agent_worker.ports import Head
from shared.session.state import SessionState
from tests.fakes.provider import MemoryProvider
from tests.fakes.store import MemoryStore

_open, _send, _claim = MemoryProvider.open, MemoryProvider.send, MemoryStore.claim
Change = Callable[[Head], Head]


async def _opens_blindly(self: MemoryProvider, state: SessionState, *, look: bool) -> Any:
    return await _open(self, state, look=False)


async def _sends_blindly(
    self: MemoryProvider, state: SessionState, content: Any, *, look: bool
) -> None:
    await _send(self, state, content, look=False)


def _claims(change: Change) -> Callable[..., Any]:
    async def claim(self: MemoryStore, owner: str, limit: int, lease_seconds: float) -> list[Head]:
        return [change(head) for head in await _claim(self, owner, limit, lease_seconds)]

    return claim


def _says_anew(head: Head) -> Head:
    return replace(head, unsaid=tuple(replace(event, at="later") for event in head.unsaid))


# What is wrong, and with which method of what instead.
MUTANTS: dict[str, tuple[type, str, object]] = {
    "does not look for a session that an earlier try has made": (
        MemoryProvider,
        "open",
        _opens_blindly,
    ),
    "does not look for a message that an earlier try has sent": (
        MemoryProvider,
        "send",
        _sends_blindly,
    ),
    "forgets what was not said": (
        MemoryStore,
        "claim",
        _claims(lambda head: replace(head, unsaid=())),
    ),
    "says it in other words": (MemoryStore, "claim", _claims(_says_anew)),
    "forgets what was not done": (
        MemoryStore,
        "claim",
        _claims(lambda head: replace(head, todo=())),
    ),
    "records a repeat": (SessionState, "knows", lambda self, event_id: False),
}


@contextmanager
def broken(name: str) -> Iterator[None]:
    """Every worker is so, while this lasts."""
    of, method, instead = MUTANTS[name]
    with mock.patch.object(of, method, instead):
        yield
