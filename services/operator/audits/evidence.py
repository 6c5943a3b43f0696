"""Values for `compare`, without a word that somebody said."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

# What the provider says only on its streams, never in its lists (seen on the wire).
STREAM_ONLY = frozenset({"session.status_terminated", "session.deleted"})


@dataclass(frozen=True, slots=True)
class Row:
    """An event of the archive. `digest` is of the provider's JSON, "" for our own events; times are RFC 3339."""

    seq: int
    type: str
    turn_id: str
    thread_id: str
    provider_event_id: str
    at: str
    digest: str = ""
    attempts: int = 0
    provider_session_id: str = ""


@dataclass(frozen=True, slots=True)
class Listed:
    """An event of one of the provider's lists; `processed_at` is None while it is queued."""

    id: str
    type: str
    processed_at: str | None
    digest: str


@dataclass(frozen=True, slots=True)
class ProviderLog:
    """The lists of one provider session: `threads` by id, "" being the primary one, each in its own order."""

    session: str
    threads: dict[str, list[Listed]] = field(default_factory=dict)
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """An input of the inbox; `at` is when its publisher says it was asked."""

    position: int
    input_id: str
    kind: str
    at: str


@dataclass(frozen=True, slots=True)
class Head:
    """A head row. `provider_session_id` is what it is bound to, `uses` what of that it is not done with, `working`
    whether a turn is open."""

    tenant_id: str
    session_id: str
    last_seq: int
    status: str
    filed: int
    taken: int
    position: int
    provider_session_id: str = ""
    uses: str = ""
    working: bool = False


def digest(raw: str | bytes) -> str:
    """The same for the same JSON, however it is laid out. A user event is seen again when it was processed: the
    time of that is left out of it. Text that is no JSON is its own digest."""
    try:
        value = json.loads(raw)
    except ValueError:
        value = raw if isinstance(raw, str) else raw.decode("utf-8", "replace")
    if isinstance(value, dict) and str(value.get("type", "")).startswith("user."):
        value.pop("processed_at", None)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
