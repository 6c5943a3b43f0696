"""How does one event read on a terminal? Pure."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from services.operator.recorded import Recorded

WIDTH = 100


def line(event: Recorded) -> str:
    """`seq  time  type  turn  what it says`, one line."""
    words = _words(event)
    clock = event.at.partition(" ")[2][:12]
    return f"{event.seq:>5}  {clock}  {event.type:<29} {event.turn_id:<16} {words}".rstrip()


def as_json(event: Recorded) -> str:
    """The event as one line of JSON, its data untouched."""
    head = {"seq": event.seq, "at": event.at, "type": event.type, "turn_id": event.turn_id}
    return json.dumps(head, ensure_ascii=False)[:-1] + f', "data": {_one_line(event.data)}}}'


def pause(before: str, at: str, speed: float) -> float:
    """Seconds to wait before an event at `at` that follows one at `before` ("" at the start)."""
    if not speed or not before:
        return 0.0
    gap = datetime.fromisoformat(at) - datetime.fromisoformat(before)
    return max(0.0, gap.total_seconds() / speed)


def _words(event: Recorded) -> str:
    try:
        data = json.loads(event.data)
    except ValueError:
        return ""
    if not isinstance(data, dict):
        return ""
    if event.type in ("turn.completed", "turn.interrupted"):
        return _short(f"{data.get('status')}: {data.get('reply') or ''}")
    error = data.get("error")
    if isinstance(error, dict):
        return _short(f"{error.get('type')}: {error.get('message')}")
    if "content" in data:
        return _short(_text(data["content"]))
    if "name" in data:
        return _short(f"{data['name']} {json.dumps(data.get('input', ''), ensure_ascii=False)}")
    return _short(str(data.get("reason") or ""))


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    blocks = [block for block in content if isinstance(block, dict)]
    return " ".join(str(block.get("text") or f"[{block.get('type')}]") for block in blocks)


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= WIDTH else flat[: WIDTH - 1] + "…"


def _one_line(data: str) -> str:
    """JSON texts hold no raw line break inside strings, so a line break is only layout."""
    return data.replace("\r", " ").replace("\n", " ")
