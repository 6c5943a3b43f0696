"""The certificate of an erasure: one JSON document. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from shared.moment import rfc3339
from shared.session.key import SessionKey

NAME = "turnstile.erasure/1"
# The broker looks for old segments every 5 minutes and deletes their files a minute later, by default.
BROKER_LOOKS = timedelta(minutes=10)
KEPT = (
    "Kept as tombstones: tenant, session and user id, status, counts and cost, times; and spans, which hold ids "
    "and times. What PostgreSQL's dead rows and write-ahead log hold goes with the next vacuum and checkpoint."
)


@dataclass(frozen=True, slots=True)
class Topic:
    """How long a topic keeps records, as its broker says; `retention_ms` below 0: for ever."""

    name: str
    retention_ms: int
    segment_ms: int

    def until(self, last: datetime) -> datetime | None:
        """When a record written at `last` is gone: segments are deleted whole, once their newest record is old
        enough, and a segment may be written to for `segment_ms`. None: never."""
        if self.retention_ms < 0:
            return None
        return last + timedelta(milliseconds=self.retention_ms + self.segment_ms) + BROKER_LOOKS


@dataclass(slots=True)
class Erased:
    """One session. `rows` are those erased, by store and table; `left` says what is there still, in words."""

    tenant: str
    session: str
    user: str = ""
    asked_at: str = ""
    sql_rows: dict[str, int] = field(default_factory=dict)
    archive_rows: dict[str, int] = field(default_factory=dict)
    archive_deleted_at: str = ""
    archive_gone_at: str = ""
    provider_sessions: list[str] = field(default_factory=list)
    dead_letters: int = 0
    left: list[str] = field(default_factory=list)

    @property
    def key(self) -> SessionKey:
        return (self.tenant, self.session)

    def as_json(self) -> dict[str, Any]:
        """An entry of `sessions` in the certificate: counts of rows, times in RFC 3339, what is left in words."""
        return {
            "tenant_id": self.tenant,
            "session_id": self.session,
            "user_id": self.user,
            "asked_at": self.asked_at,
            "provider": {"sessions_deleted": self.provider_sessions},
            "sql": {"rows_erased": self.sql_rows},
            "clickhouse": {
                "rows_deleted": self.archive_rows,
                "deleted_at": self.archive_deleted_at,
                "gone_from_disk_at": self.archive_gone_at,
            },
            "dead_letters": {"made_unreadable": self.dead_letters},
            "left": self.left,
        }


@dataclass(slots=True)
class ErasedUser:
    """What was kept of a user beside the user's sessions. `rows` are those deleted, by table, `vaults` those
    deleted at the provider; `left` as above."""

    tenant: str
    user: str
    rows: dict[str, int] = field(default_factory=dict)
    vaults: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The member `user` of the certificate."""
        return {
            "tenant_id": self.tenant,
            "user_id": self.user,
            "provider": {"vaults_deleted": self.vaults},
            "sql": {"rows_erased": self.rows},
            "left": self.left,
        }


def certificate(
    sessions: Sequence[Erased],
    topics: Sequence[Topic],
    asked: datetime,
    done: datetime,
    user: ErasedUser | None = None,
) -> dict[str, Any]:
    """The document. `complete` only when nothing is left anywhere but in Kafka, whose copies age out by then."""
    left = [one.left for one in sessions] + ([user.left] if user else [])
    return {
        "certificate": NAME,
        "complete": bool(left) and not any(left),
        "asked_at": rfc3339(asked),
        "looked_again_at": rfc3339(done),
        "sessions": [session.as_json() for session in sessions],
        **({"user": user.as_json()} if user else {}),
        "kafka": [_topic(topic, done) for topic in topics],
        "kept": KEPT,
    }


def _topic(topic: Topic, last: datetime) -> dict[str, Any]:
    until = topic.until(last)
    return {
        "topic": topic.name,
        "retention_ms": topic.retention_ms,
        "segment_ms": topic.segment_ms,
        "copies_last_until": rfc3339(until) if until else "for ever",
    }
