"""The facts of a run from all sides, to be judged without asking anybody again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from tests.chaos.moves import Said


@dataclass(frozen=True, slots=True)
class Made:
    """An event of the provider's list: `thread` is empty on the primary one, `raw` as the API gives it.
    `late`: it came after the turn's idle, so its place among the events is not promised."""

    id: str
    type: str
    thread: str
    raw: bytes
    late: bool = False


@dataclass(frozen=True, slots=True)
class ProviderSession:
    """One session at the provider. `messages`: the text blocks of each user message it took, in order.
    `unlisted`: ids of events that only streams showed. `over`: it was closed, or `deleted`. `bill`: what it cost,
    in millionths of a US dollar."""

    id: str
    messages: Sequence[Sequence[str]]
    events: Sequence[Made]
    unlisted: frozenset[str] = frozenset()
    over: bool = True
    deleted: bool = False
    bill: float = 0.0


class _Processed(msgspec.Struct):
    processed_at: str = ""


def processed_at(event: Made) -> str:
    """When the provider had processed it; "" for one that it never did."""
    return msgspec.json.decode(event.raw, type=_Processed).processed_at


def in_turn(sessions: Sequence[ProviderSession]) -> list[ProviderSession]:
    """In the order in which they first ran, those that never did last. Not that of their making: one whose making
    seemed to fail, and was made again, is adopted by a later turn."""
    ran = {
        one.id: min(filter(None, map(processed_at, one.events)), default="~") for one in sessions
    }
    return sorted(sessions, key=lambda one: ran[one.id])


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the view `events`; `provider_event_id` is empty on our own."""

    seq: int
    event_id: str
    type: str
    turn_id: str
    thread_id: str
    provider_event_id: str
    data: str
    at: str = ""


@dataclass(frozen=True, slots=True)
class Published:
    """A session on the events topic: its highest seq, seqs with two bodies, and records that came again."""

    last_seq: int = 0
    two_bodies: tuple[int, ...] = ()
    repeats: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything about one of our sessions. `at_provider`: see `in_turn`. `heard_wrong`: what the client's stream
    brought twice or left out, in words. `capped`: how the cap that may refuse turns is named, "" where none may."""

    session_id: str
    accepted: Sequence[Said]
    at_provider: Sequence[ProviderSession]
    rows: Sequence[Row]
    published: Published = field(default_factory=Published)
    heard_wrong: Sequence[str] = ()
    capped: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that should not be. `kind` is one of the judge's KINDS."""

    kind: str
    session_id: str
    detail: str


Findings = Mapping[str, Sequence[Finding]]
