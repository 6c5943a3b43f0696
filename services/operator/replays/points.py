"""The differences of two pasts: two sessions, or two points of one. Pure."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from msgspec import Struct, to_builtins
from msgspec.structs import asdict

from services.operator.line import text_of
from services.operator.past import Past, ToldTurn
from services.operator.printable import plain, short

WIDTH = 90
MONEY = 6  # digits: costs are floats


class Difference(Struct, frozen=True, kw_only=True):
    """One field that differs. `turn` is the turn's place, 1 for the first, or None for the session's own field; a
    turn that only one side has differs in `turn_id`, None on the other side."""

    turn: int | None
    field: str
    a: Any
    b: Any


def of_sessions(a: Past, b: Past) -> list[Difference]:
    """Two sessions: turns are paired by their place, and ids and times are left out."""
    return [
        *_fields(None, _session(a), _session(b)),
        *_turns(zip_longest(a.turns(), b.turns())),
    ]


def of_points(a: Past, b: Past) -> list[Difference]:
    """Two points of one session: turns are paired by their id."""
    left = {told.turn_id: told for told in a.turns()}
    right = {told.turn_id: told for told in b.turns()}
    pairs = [(left.get(turn_id), right.get(turn_id)) for turn_id in {**left, **right}]
    own = [{**_session(past), **_where(past)} for past in (a, b)]
    return [*_fields(None, *own), *_turns(iter(pairs))]


def as_text(differences: list[Difference]) -> str:
    """The differences for a terminal, grouped by turn."""
    lines: list[str] = []
    above: int | str | None = ""
    for one in differences:
        if one.turn != above:
            lines.append("session" if one.turn is None else f"turn {one.turn}")
            above = one.turn
        lines += _shown(one)
    return "\n".join(lines)


def as_json(difference: Difference) -> dict[str, Any]:
    """The difference as an object."""
    return asdict(difference)


def _session(past: Past) -> dict[str, Any]:
    """The session's fields without ids and times."""
    state = past.state
    assert state is not None
    return {
        "user_id": state.user_id,
        "agent": state.agent,
        "bound_agent": state.bound_agent,
        "model": state.model,
        "mode": state.mode,
        "title": state.title,
        "metadata": state.metadata,
        "budget_usd": state.budget_usd,
        "vault_ids": state.vault_ids,
        "resources": to_builtins(list(state.resources)),
        "status": state.public_status,
        "pending_actions": [f"{action.kind}: {action.name}" for action in state.pending],
        "usage": asdict(state.usage),
        "cost_usd": round(state.cost_usd, MONEY),
    }


def _where(past: Past) -> dict[str, Any]:
    """The session's fields that tell how far it is."""
    state = past.state
    assert state is not None
    return {
        "open_turn": state.open_turn,
        "waiting": [queued.turn.turn_id for queued in state.queue],
        "provider_session_id": state.provider_session_id,
    }


def _turns(pairs: Iterator[tuple[ToldTurn | None, ToldTurn | None]]) -> Iterator[Difference]:
    for place, (a, b) in enumerate(pairs, 1):
        if a is None or b is None:
            there = [told and told.turn_id for told in (a, b)]
            yield Difference(turn=place, field="turn_id", a=there[0], b=there[1])
        else:
            yield from _fields(place, _turn(a), _turn(b))


def _turn(told: ToldTurn) -> dict[str, Any]:
    turn = told.turn
    return {
        "content": text_of(told.content),
        "status": turn.status,
        "stop_reason": turn.stop_reason,
        "error": turn.error.type if turn.error else None,
        "attempts": turn.attempts,
        "reply": turn.reply,
        "tools": [f"{call.name} {call.input}" for call in told.tools],
        "failed_tools": [call.name for call in told.tools if call.is_error],
        "usage": asdict(turn.usage),
        "cost_usd": round(turn.cost_usd, MONEY),
    }


def _fields(turn: int | None, a: dict[str, Any], b: dict[str, Any]) -> Iterator[Difference]:
    for name, value in a.items():
        if value != b[name]:
            yield Difference(turn=turn, field=name, a=value, b=b[name])


def _shown(one: Difference) -> list[str]:
    a, b = _lines(one.a), _lines(one.b)
    if len(a) <= 1 and len(b) <= 1:
        before, after = ("".join(side) or "none" for side in (a, b))
        return [f"  {one.field:<20} {short(before, WIDTH)} → {short(after, WIDTH)}"]
    marked = list(difflib.unified_diff(a, b, n=1, lineterm=""))[2:]
    return [f"  {one.field}", *(f"    {line}" for line in marked)]


def _lines(value: Any) -> list[str]:
    """A text by its lines, a list by its items, an object by its fields."""
    if value is None:
        return []
    if isinstance(value, str):
        return plain(value).splitlines()
    if isinstance(value, list):
        return [plain(str(item)) for item in value]
    if isinstance(value, dict):
        return [plain(f"{name}: {item}") for name, item in value.items()]
    return [json.dumps(value)]
