"""Inputs and heads as the suites of the Store want them."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from services.agent_worker.ports import Head, NewInput, Store
from shared.session import decide
from shared.session.key import SessionKey
from shared.trace_context import joined
from tests.builders import TENANT, TRACEPARENT, at, bound, turn

KEY: SessionKey = (TENANT, "s1")
OTHER: SessionKey = (TENANT, "s2")
LEASE = 60.0
# As large as one may be.
CONTEXT = joined(TRACEPARENT, ",".join(f"{n:x}k@v={'t' * 24}" for n in range(16)))
EXPIRED = 0.0


def asked(turn_id: str = "t1", key: SessionKey = KEY, content: object = "hello") -> NewInput:
    request = turn(turn_id, content).request
    body = msgspec.json.encode({**msgspec.to_builtins(request), "session_id": key[1]})
    return NewInput(key, f"turn:{turn_id}", "turn.requested", body, CONTEXT, at(1))


async def claimed(store: Store, owner: str = "a", lease: float = LEASE) -> Head:
    (head,) = await store.claim(owner, 10, lease)
    return head


def advanced(head: Head) -> Head:
    """The head after its turn was taken in and bound: state, unsaid events and a command."""
    first = decide(head.state, turn("t1", "¿qué? 🎈"))
    second = decide(first.state, bound())
    return replace(
        head,
        state=second.state,
        unsaid=first.events + second.events,
        todo=first.commands,
        position=1,
        taken=1,
    )
