"""Recorded events: turns of a plain conversation, shaped and sized like real ones."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import Raw

from shared.bus.envelope import Envelope
from shared.moment import rfc3339
from shared.session.events import Event, Turn, TurnAccepted, TurnStarted, Usage
from tests.bench.kafka_log import Record

TURNS = 10  # of one session
EVENTS = 10  # of one turn
_WORDS = re.findall(
    r"\w+",
    "the and of agent reads a file looks again finds what it needs then writes an answer with "
    "numbers dates names places code tests results small large first second third before after",
)
_TRACE = "00-{}-00f067aa0ba902b7-01"
_encode = msgspec.json.Encoder().encode


def records(
    count: int, tenant: str, began: datetime, chance: random.Random, turns: int = TURNS
) -> Iterator[Record]:
    """`count` records for turnstile.events.v1: sessions of `turns` turns of EVENTS events each."""
    made = 0
    for number in range(-(-count // (turns * EVENTS))):
        for event in _session(f"ses_{tenant}_{number:06d}", tenant, began, chance, turns):
            if made == count:
                return
            made += 1
            yield event.session_id.encode(), _encode(event), _headers(event)


def renamed(some: Iterable[Record], old: str, new: str) -> Iterator[Record]:
    """The same records for another tenant: far cheaper than making them anew.

    `old` must be a text that occurs nowhere but in the tenant's name and in what is made of it.
    """
    was, now = old.encode(), new.encode()
    for key, value, headers in some:
        changed = [(name, text.replace(was, now)) for name, text in headers]
        yield key.replace(was, now), value.replace(was, now), changed


def _session(
    session_id: str, tenant: str, at: datetime, chance: random.Random, turns: int
) -> Iterator[Event]:
    for turn in range(turns):
        turn_id, trace = f"turn_{chance.getrandbits(96):024x}", f"{chance.getrandbits(128):032x}"
        for place, (kind, data) in enumerate(_turn(turn_id, at, trace, chance)):
            seq = turn * EVENTS + place + 1
            at += timedelta(milliseconds=chance.randrange(5, 400))
            own = kind.startswith("turn.")
            yield Event(
                tenant_id=tenant,
                session_id=session_id,
                seq=seq,
                event_id=f"{session_id}:{seq}" if own else data["id"],
                type=kind,
                turn_id=turn_id,
                at=rfc3339(at),
                user_id=f"user-{session_id[-3:]}",
                model="claude-sonnet-5" if kind.startswith("span.") else None,
                trace_id=trace,
                data=Raw(_encode(data)),
            )


def _turn(
    turn_id: str, at: datetime, trace: str, chance: random.Random
) -> Iterator[tuple[str, Any]]:
    """(type, data) of one turn's events; of the provider's all have `id` and `processed_at`."""
    asked, reply = _text(chance, 60), _text(chance, 150)
    usage = Usage(input_tokens=412, output_tokens=233, cache_read_tokens=3_120)
    turn: dict[str, Any] = {"turn_id": turn_id, "user_id": "user-1", "submitted_at": rfc3339(at)}
    yield "turn.accepted", TurnAccepted(
        **turn, status="accepted", content=asked, input_id=f"turn:{turn_id}",
        traceparent=_TRACE.format(trace),
    )  # fmt: skip
    yield "turn.started", TurnStarted(
        **turn, status="running", started_at=rfc3339(at), attempts=1,
        provider_session_id=f"sesn_{trace[:24]}", agent="agent_bench", model="claude-sonnet-5",
    )  # fmt: skip
    model_usage = {"input_tokens": 412, "output_tokens": 233, "cache_read_input_tokens": 3_120}
    text = {"type": "text", "text": reply}
    for kind, fields in (
        ("user.message", {"content": [{"type": "text", "text": asked}]}),
        ("session.status_running", {}),
        ("span.model_request_start", {}),
        ("agent.thinking", {"content": [{"type": "text", "text": _text(chance, 80)}]}),
        ("agent.message", {"content": [text]}),
        ("span.model_request_end", {"is_error": False, "model_usage": model_usage}),
        ("session.status_idle", {"stop_reason": {"type": "end_turn"}}),
    ):
        ident = f"sevt_{chance.getrandbits(96):024x}"
        yield kind, {"id": ident, "type": kind, "processed_at": rfc3339(at), **fields}
    yield "turn.completed", Turn(
        **turn, status="completed", started_at=rfc3339(at), ended_at=rfc3339(at), attempts=1,
        usage=usage, cost_usd=0.0051, stop_reason="end_turn", reply=reply,
    )  # fmt: skip


def _text(chance: random.Random, words: int) -> str:
    return " ".join(chance.choices(_WORDS, k=words))


def _headers(event: Event) -> list[tuple[str, bytes]]:
    return Envelope(
        id=event.event_id,
        source=f"/turnstile/agent-worker/{event.tenant_id}",
        type=event.type,
        time=event.at,
        subject=event.session_id,
        traceparent=_TRACE.format(event.trace_id),
    ).headers()
