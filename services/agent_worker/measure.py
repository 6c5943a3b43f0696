"""Metrics of what a write recorded: turns and how long they took, attempts, tokens, dollars."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from shared import metrics
from shared.moment import parse
from shared.session.events import TURN_ENDS, Event, Turn, TurnRetrying
from shared.session.state import SessionState

# A token's kind to its field in Usage.
TOKENS = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
}


def recorded(
    events: Sequence[Event], before: SessionState, after: SessionState, now: datetime
) -> None:
    """Count one write that brought `before` to `after`; call it once for each, as soon as it succeeded.

    Times of the provider and of publishers are by other clocks: a difference below zero counts as none.
    """
    for event in events:
        if event.type in TURN_ENDS:
            _ended(msgspec.json.decode(event.data, type=Turn))
        elif event.type == "turn.started":
            _started(msgspec.json.decode(event.data, type=Turn), now)
        elif event.type == "turn.retrying":
            reason = msgspec.json.decode(event.data, type=TurnRetrying).reason
            metrics.inc("turnstile_turn_retries_total", reason=reason)
    _spent(before, after)


def _started(turn: Turn, now: datetime) -> None:
    # By the worker's clock: the event has the time of what caused it, often the request's own.
    if turn.attempts == 1:
        metrics.observe("turnstile_turn_queue_seconds", _seconds(turn.submitted_at, now))


def _ended(turn: Turn) -> None:
    metrics.inc("turnstile_turns_ended_total", status=turn.status)
    if turn.ended_at is not None:
        seconds = _seconds(turn.submitted_at, parse(turn.ended_at))
        metrics.observe("turnstile_turn_seconds", seconds, status=turn.status)
    if turn.first_token_at is not None:
        seconds = _seconds(turn.submitted_at, parse(turn.first_token_at))
        metrics.observe("turnstile_turn_first_token_seconds", seconds)


def _spent(before: SessionState, after: SessionState) -> None:
    if after.cost_cents > before.cost_cents:
        dollars = (after.cost_cents - before.cost_cents) / 100
        metrics.inc("turnstile_cost_usd_total", dollars)
    if after.usage == before.usage:
        return
    for kind, field in TOKENS.items():
        tokens = getattr(after.usage, field) - getattr(before.usage, field)
        if tokens > 0:
            metrics.inc("turnstile_tokens_total", tokens, kind=kind)


def _seconds(since: str, until: datetime) -> float:
    return max(0.0, (until - parse(since)).total_seconds())
