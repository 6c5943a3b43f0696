"""One event as one line of text. Pure."""

from __future__ import annotations

import json
from typing import Any

from services.operator.printable import short
from shared.moment import parse
from shared.session.events import Event

WIDTH = 100


def line(event: Event) -> str:
    """`seq  time  type  turn  what it says`, one line."""
    return (
        f"{event.seq:>5}  {clock(event.at)}  {short(event.type, WIDTH):<29} "
        f"{event.turn_id or '':<16} {_words(event)}".rstrip()
    )


def clock(at: str) -> str:
    """The time of day of a moment in our form, with milliseconds."""
    return at[11:23]


def as_json(event: Event) -> str:
    """The event as one line of JSON, its data untouched."""
    head = {"seq": event.seq, "at": event.at, "type": event.type, "turn_id": event.turn_id}
    data = _one_line(bytes(event.data).decode())
    return json.dumps(head, ensure_ascii=False)[:-1] + f', "data": {data}}}'


def pause(before: str, at: str, speed: float) -> float:
    """Seconds to wait before an event at `at` that follows one at `before` ("" at the start)."""
    if not speed or not before:
        return 0.0
    return max(0.0, (parse(at) - parse(before)).total_seconds() / speed)


def text_of(content: Any) -> str:
    """The text of a message's content, a word in brackets for each block that has none."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    blocks = [block for block in content if isinstance(block, dict)]
    return "\n".join(
        str(block.get("text") or block.get("description") or f"[{block.get('type')}]")
        for block in blocks
    )


def read(event: Event) -> dict[str, Any]:
    """The event's data; empty when it is no JSON object."""
    try:
        data = json.loads(bytes(event.data))
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _words(event: Event) -> str:
    data = read(event)
    if event.type in ("turn.completed", "turn.interrupted"):
        return short(f"{data.get('status')}: {data.get('reply') or ''}", WIDTH)
    error = data.get("error")
    if isinstance(error, dict):
        return short(f"{error.get('type')}: {error.get('message')}", WIDTH)
    if "content" in data:
        return short(text_of(data["content"]), WIDTH)
    if "name" in data:
        called = json.dumps(data.get("input", ""), ensure_ascii=False)
        return short(f"{data['name']} {called}", WIDTH)
    return short(str(data.get("reason") or ""), WIDTH)


def _one_line(data: str) -> str:
    """JSON texts hold no raw line break inside strings, so a line break is only layout."""
    return data.replace("\r", " ").replace("\n", " ")
