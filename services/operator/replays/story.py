"""A session as a story: who said what, which tools ran, what it cost. Pure.

One entry an event that says something; what only keeps the machinery going (states, threads, starts of requests)
has none. Remembered is what the next lines need and no more: the turn's beginning, calls that are not answered.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import typer

from services.operator.line import clock, read, text_of
from services.operator.past import KINDS, RESULTS
from services.operator.printable import plain, short, wrapped
from shared.moment import parse
from shared.session.events import TURN_ENDS, Event

GUTTER = 33  # seq, time, who
WHO = 11
COLOURS = {"user": "cyan", "agent": "green", "tool": "yellow", "model": "bright_black"}
MAX_OPEN = 1_000  # calls that wait for an end; a log may hold more that never end
# Events of ours that are told by their own words, where nothing else tells them.
OWN = ("turn.", "session.prewarm", "session.rotated", "session.archived")
Data = dict[str, Any]


class Story:
    """Writes events in order as text. `width` is the terminal's, in characters; `whole`: texts are not cut."""

    def __init__(self, width: int = 100, whole: bool = False) -> None:
        self._width = max(40, width - GUTTER)
        self._whole = whole
        self._began: dict[str, tuple[str, str]] = {}
        self._prompt = ""
        self._tell: dict[str, Callable[[Event, Data], tuple[str, str]]] = {
            "session.opened": self._opened,
            "turn.accepted": self._accepted,
            "turn.started": self._started,
            "user.message": self._user,
            "user.define_outcome": self._outcome,
            "span.outcome_evaluation_end": self._evaluated,
            "agent.message": self._agent,
            "user.interrupt": lambda event, data: ("user", "interrupts"),
            "user.tool_confirmation": self._confirmed,
            "user.custom_tool_result": self._result,
            "span.model_request_end": self._model,
            "session.error": self._error,
            "session.idled": self._idled,
            **dict.fromkeys(KINDS, self._tool),
            **dict.fromkeys(RESULTS, self._result),
            **dict.fromkeys(TURN_ENDS, self._ended),
        }

    def tell(self, event: Event) -> str:
        """The event's lines, "" when it says nothing."""
        data = read(event)
        if event.type == "span.model_request_start":
            self._begin(event, "")
        tell = self._tell.get(event.type)
        if tell is None and event.type.startswith(OWN):
            tell = self._own
        if tell is None:
            return ""
        who, text = tell(event, data)
        if not text:
            return ""
        if event.thread_id:
            text = f"[{event.thread_id}] {text}"
        return self._head(event) + self._entry(event, who, text)

    def _head(self, event: Event) -> str:
        """A line above each turn."""
        if event.type != "turn.accepted":
            return ""
        name = f"── turn {event.turn_id} · {event.user_id} · {event.at[:10]} "
        return "\n" + typer.style(plain(name).ljust(self._width + GUTTER, "─"), bold=True) + "\n"

    def _entry(self, event: Event, who: str, text: str) -> str:
        role = who.partition(" ")[0]
        name = typer.style(
            f"{plain(who):<{WHO}}", fg=COLOURS.get(role), bold=role in ("user", "agent") or None
        )
        body = wrapped(text, self._width, " " * GUTTER)
        return f"{event.seq:>6}  {clock(event.at)} {name} {body}"

    def _opened(self, event: Event, data: Data) -> tuple[str, str]:
        agent = f", agent {data['agent']}" if data.get("agent") else ""
        title = f": {data['title']}" if data.get("title") else ""
        return "session", f"opened by {data.get('user_id')} on {event.at[:10]}{agent}{title}"

    def _accepted(self, event: Event, data: Data) -> tuple[str, str]:
        self._prompt = text_of(data.get("content"))
        waits = "" if data.get("on_busy") in (None, "enqueue") else f" ({data['on_busy']})"
        return "user" + waits, self._said(self._prompt) or "(nothing)"

    def _user(self, event: Event, data: Data) -> tuple[str, str]:
        text = text_of(data.get("content"))
        return "user", "" if text == self._prompt and event.turn_id else self._said(text)

    def _outcome(self, event: Event, data: Data) -> tuple[str, str]:
        text = str(data.get("description", ""))
        return "user", "" if text == self._prompt and event.turn_id else self._said(text)

    def _evaluated(self, event: Event, data: Data) -> tuple[str, str]:
        return "grader", self._said(f"{data.get('result')}: {data.get('explanation')}")

    def _started(self, event: Event, data: Data) -> tuple[str, str]:
        waited = _seconds(data.get("submitted_at"), event.at)
        words = (
            f"{data.get('agent')} on {data.get('model')}, attempt {data.get('attempts')}, {waited}"
        )
        return "started", f"{words} after it was asked"

    def _agent(self, event: Event, data: Data) -> tuple[str, str]:
        return "agent", self._said(text_of(data.get("content")))

    def _tool(self, event: Event, data: Data) -> tuple[str, str]:
        name = str(data.get("name"))
        self._begin(event, name)
        asks = " (asks)" if data.get("evaluated_permission") == "ask" else ""
        called = json.dumps(data.get("input", {}), ensure_ascii=False)
        return "tool", f"{name}{asks} {short(called, 2 * self._width)}"

    def _confirmed(self, event: Event, data: Data) -> tuple[str, str]:
        why = f": {data['deny_message']}" if data.get("deny_message") else ""
        return "user", f"{data.get('result')}s the call{why}"

    def _result(self, event: Event, data: Data) -> tuple[str, str]:
        use = (
            data.get("tool_use_id") or data.get("custom_tool_use_id") or data.get("mcp_tool_use_id")
        )
        name, at = self._began.pop(str(use), ("", ""))
        took = f" after {_seconds(at, event.at)}" if at else ""
        verdict = "failed" if data.get("is_error") else "answered"
        text = short(text_of(data.get("content")), 2 * self._width)
        return "tool", f"{name} {verdict}{took}: {text}".strip()

    def _model(self, event: Event, data: Data) -> tuple[str, str]:
        usage = data.get("model_usage")
        used = usage if isinstance(usage, dict) else {}
        at = self._began.pop(str(data.get("model_request_start_id")), ("", ""))[1]
        took = f", {_seconds(at, event.at)}" if at else ""
        failed = "failed, " if data.get("is_error") else ""
        fresh, written = used.get("input_tokens", 0), used.get("output_tokens", 0)
        cached = used.get("cache_read_input_tokens", 0)
        return "model", f"{failed}{fresh} tokens in, {cached} from cache, {written} out{took}"

    def _error(self, event: Event, data: Data) -> tuple[str, str]:
        error = data.get("error")
        found = error if isinstance(error, dict) else {}
        return "error", f"{found.get('type')}: {found.get('message')}"

    def _ended(self, event: Event, data: Data) -> tuple[str, str]:
        usage = data.get("usage") or {}
        error = data.get("error") or {}
        why = f" ({error.get('type')}: {error.get('message')})" if error else ""
        words = (
            f"{data.get('stop_reason') or data.get('status')}{why} after "
            f"{_seconds(data.get('submitted_at'), event.at)} · {_dollars(data)} · "
            f"{usage.get('input_tokens', 0)} tokens in, {usage.get('output_tokens', 0)} out · "
            f"{data.get('tool_calls', 0)} tool calls"
        )
        return event.type.removeprefix("turn."), words

    def _idled(self, event: Event, data: Data) -> tuple[str, str]:
        return "session", f"at rest, {_dollars(data)} so far"

    def _own(self, event: Event, data: Data) -> tuple[str, str]:
        said = [data.get(name) for name in ("reason", "detail", "action")]
        said += [f"next try {clock(data['retry_at'])}"] if data.get("retry_at") else []
        said += [f"waits for {one.get('name')}" for one in data.get("pending_actions") or []]
        words = ", ".join(str(word) for word in said if word)
        who = "waits" if event.type == "turn.requires_action" else event.type.partition(".")[2]
        return who, words or event.type

    def _begin(self, event: Event, name: str) -> None:
        if len(self._began) >= MAX_OPEN:
            del self._began[next(iter(self._began))]
        self._began[event.event_id] = (name, event.at)

    def _said(self, text: str) -> str:
        return text if self._whole else _head_of(text, 12 * self._width)


def _head_of(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most} more characters)"


def _seconds(began: Any, ended: str) -> str:
    try:
        return f"{max(0.0, (parse(ended) - parse(str(began))).total_seconds()):.1f} s"
    except ValueError:
        return "? s"


def _dollars(data: Data) -> str:
    return f"${float(data.get('cost_usd') or 0):.4f}"
