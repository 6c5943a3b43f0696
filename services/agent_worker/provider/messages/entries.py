"""Entries of a conversation: events in the provider's shape, and what of them goes to the model. Pure."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from services.agent_worker.ports import Entry
from services.agent_worker.provider.messages.dialog import INTERRUPTED, Dialog

Json = dict[str, Any]
USAGE = (
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
)
# Why a model stops, in the words that a session has for it. What is cut short has ended, too: the idle says so.
ENDED = ("end_turn", "stop_sequence", "max_tokens", "model_context_window_exceeded")
_encode = msgspec.json.encode


class Draft:
    """Entries that follow a dialog's newest, all of one moment."""

    def __init__(self, dialog: Dialog, at: str) -> None:
        self.entries: list[Entry] = []
        self._dialog = dialog
        self._at = at

    def add(self, kind: str, fields: Json | None = None, said: Any = None, source: str = "") -> str:
        """One more; returns its event's id."""
        ident = self._dialog.event_id(len(self.entries) + 1)
        event = {"type": kind, "id": ident, "processed_at": self._at, **(fields or {})}
        position = self._dialog.position + len(self.entries) + 1
        self.entries.append(
            Entry(
                position=position,
                source=source or f"#{position}",
                event=_encode(event),
                said=b"" if said is None else _encode(said),
            )
        )
        return ident


def prompt(dialog: Dialog, content: list[Json], source: str, at: str) -> list[Entry]:
    """A user's message, and that the session runs."""
    draft = Draft(dialog, at)
    draft.add("session.status_running")
    draft.add("user.message", {"content": content}, content, source)
    return draft.entries


def result(
    dialog: Dialog, call: str, content: Any, *, is_error: bool, source: str, at: str
) -> list[Entry]:
    """The result of a call; with the last one the session runs again."""
    draft = Draft(dialog, at)
    said = {
        "type": "tool_result",
        "tool_use_id": dialog.calls[call],
        "content": content,
        "is_error": is_error,
    }
    fields = {"custom_tool_use_id": call, "content": content, "is_error": is_error}
    draft.add("user.custom_tool_result", fields, said, source)
    if set(dialog.calls) == {call}:
        draft.add("session.status_running")
    return draft.entries


def began(dialog: Dialog, usage: Json, at: str) -> list[Entry]:
    """A request that the model has begun to answer: what it has cost by now is known even if its end never is."""
    draft = Draft(dialog, at)
    draft.add("span.model_request_start", None, usage)
    return draft.entries


def broke(dialog: Dialog, at: str) -> list[Entry]:
    """The end of a request that was begun and whose answer nobody has: what it cost is all that is left of it."""
    draft = Draft(dialog, at)
    if dialog.begun is not None:
        _span(draft, dialog.begun_id, dialog.begun, None, failed=True)
    return draft.entries


def answer(dialog: Dialog, message: Json, at: str) -> list[Entry]:
    """All that an answer of the model's becomes, and what follows from why it stopped."""
    draft, calls, said_at = Draft(dialog, at), list[str](), _first_text(message["content"])
    for place, block in enumerate(message["content"]):
        if block["type"] in ("thinking", "redacted_thinking"):
            draft.add("agent.thinking")
        elif place == said_at:
            draft.add("agent.message", {"content": _texts(message["content"])})
        elif block["type"] == "tool_use":
            fields = {"name": block["name"], "input": block["input"]}
            calls.append(draft.add("agent.custom_tool_use", fields, block["id"]))
    _span(draft, dialog.begun_id, message["usage"], message["content"], failed=False)
    stop = message["stop_reason"]
    if calls:
        _rest(draft, {"type": "requires_action", "event_ids": calls})
    elif stop != "pause_turn":
        reason = {"type": "end_turn" if stop in ENDED else stop}
        details = message.get("stop_details") or (
            {"type": stop} if stop in ENDED and stop != "end_turn" else None
        )
        _rest(draft, reason, details)
    return draft.entries


def message_place(content: list[Json]) -> int:
    """How many entries after the newest the message of an answer will stand, as far as its blocks have come."""
    ahead = 0
    for block in content:
        ahead += 1
        if block["type"] == "text":
            return ahead
    return ahead


Outcome = Literal["retrying", "exhausted", "final"]


def failed(dialog: Dialog, kind: str, words: str, outcome: Outcome, at: str) -> list[Entry]:
    """A request that failed. `exhausted`: the turn rests, and is tried again by who sent it; `final`: the same is
    refused for ever, who sent it is told so."""
    draft = Draft(dialog, at)
    if dialog.begun is not None:
        _span(draft, dialog.begun_id, dialog.begun, None, failed=True)
    status = {"type": outcome}
    draft.add("session.error", {"error": {"type": kind, "message": words, "retry_status": status}})
    if outcome == "exhausted":
        draft.add("session.status_idle", {"stop_reason": {"type": "retries_exhausted"}})
    return draft.entries


def interrupted(dialog: Dialog, at: str) -> list[Entry]:
    """The end of what runs: of a request, of calls that wait, of the turn."""
    draft = Draft(dialog, at)
    if dialog.begun is not None:
        _span(draft, dialog.begun_id, dialog.begun, None, failed=True)
    for call, own in dialog.calls.items():
        content = [{"type": "text", "text": INTERRUPTED}]
        said = {
            "type": "tool_result",
            "tool_use_id": own,
            "content": INTERRUPTED,
            "is_error": True,
        }
        draft.add(
            "agent.tool_result", {"tool_use_id": call, "content": content, "is_error": True}, said
        )
    draft.add("user.interrupt")
    _rest(draft, {"type": "end_turn"})
    return draft.entries


def compacted(
    dialog: Dialog, messages: list[Json], summary: str, usage: Json, at: str
) -> list[Entry]:
    """The conversation became `messages`: a summary, which a request of `usage` wrote, and its newer part."""
    draft = Draft(dialog, at)
    start = draft.add("span.model_request_start")
    _span(draft, start, usage, None, failed=False)
    fields = {"summary": summary, "left_out": len(dialog.messages) - len(messages)}
    draft.add("agent.thread_context_compacted", fields, messages)
    return draft.entries


def _span(
    draft: Draft, start: str, usage: Json, content: list[Json] | None, *, failed: bool
) -> None:
    fields = {
        "is_error": failed,
        "model_request_start_id": start,
        "model_usage": {name: usage.get(name) or 0 for name in USAGE},
    }
    draft.add("span.model_request_end", fields, content)


def _rest(draft: Draft, reason: Json, details: Json | None = None) -> None:
    fields: Json = {"stop_reason": reason}
    if details is not None:
        fields["stop_details"] = details
    draft.add("session.status_idle", fields)


def _first_text(content: list[Json]) -> int:
    return next((at for at, block in enumerate(content) if block["type"] == "text"), -1)


def _texts(content: list[Json]) -> list[Json]:
    return [{"type": "text", "text": b["text"]} for b in content if b["type"] == "text"]
