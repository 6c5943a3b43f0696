"""Every topic there is: who writes it, who reads it, how long it lives. Infrastructure reads this file.

The key is the session id (UTF-8) everywhere and the partitioner is the Java client's default (murmur2), so one
session's records stay in order in one partition.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

from shared.moment import rfc3339

# What every reader of these topics sees (Kafka's `isolation.level`): a record of an aborted transaction never, one
# of an open transaction, and what lies behind it in its partition, once it has ended.
READ_COMMITTED = "read_committed"
DAY_MS = 24 * 60 * 60 * 1000

# One provider event may be 1 MB and a turn's content 1 MiB; JSON escapes can multiply that. Kafka's own default
# (1 MiB) would refuse both, 8 MiB is what a single fetch still moves without strain.
MAX_MESSAGE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `retention_ms` is in milliseconds, `max_message_bytes` bounds one record; `timestamps` says whose
    clock a record's timestamp is by: its producer's, or the broker's."""

    name: str
    holds: str
    producers: str
    consumers: str
    retention_ms: int
    partitions: int = 12
    cleanup: str = "delete"
    max_message_bytes: int = MAX_MESSAGE_BYTES
    timestamps: Literal["CreateTime", "LogAppendTime"] = "CreateTime"


INPUTS = Topic(
    name="turnstile.inputs.v1",
    holds="what is asked of a session: turns, interrupts, answers, archive, erase",
    producers="gateway, other services",
    consumers="agent-worker (intake), gateway (projector)",
    retention_ms=7 * DAY_MS,
    # Anybody publishes here, by whatever clock: how long an input has waited, and when it is forgotten, is by ours.
    timestamps="LogAppendTime",
)
EVENTS = Topic(
    name="turnstile.events.v1",
    holds="recorded facts, numbered by seq per session",
    producers="agent-worker",
    consumers="recorder, gateway (projector, live), other services",
    retention_ms=7 * DAY_MS,
)
PREVIEWS = Topic(
    name="turnstile.previews.v1",
    holds="token deltas; best effort, never archived",
    producers="agent-worker",
    consumers="gateway (live)",
    retention_ms=10 * 60 * 1000,
)
DEAD = Topic(
    name="turnstile.dead.v1",
    holds="records nobody could use, as they came, with the reason",
    producers="agent-worker, recorder, gateway",
    consumers="operators (turnstile dead)",
    retention_ms=28 * DAY_MS,
)

# A record's timestamp type when its timestamp is the broker's (`message.timestamp.type` of its topic).
_LOG_APPEND_TIME = 1


def received_at(timestamp_ms: int, timestamp_type: int, now: datetime) -> str:
    """When a record came, by a clock of ours: the broker's, or `now` where its timestamp is the producer's."""
    return _written(timestamp_ms) if timestamp_type == _LOG_APPEND_TIME else rfc3339(now)


# What was written together has one time.
@lru_cache(maxsize=1024)
def _written(milliseconds: int) -> str:
    return rfc3339(datetime.fromtimestamp(milliseconds / 1000, UTC))


TOPICS: tuple[Topic, ...] = (INPUTS, EVENTS, PREVIEWS, DEAD)
