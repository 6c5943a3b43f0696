"""Turns, tool calls and model requests of a tenant, read out of its events by a plain program."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import cached_property
from typing import Any

from shared.session.key import SessionKey

Json = dict[str, Any]
Rows = list[list[Any]]
NOTHING = ("failed", "refused", "interrupted")
TURN_ENDS = {f"turn.{end}" for end in ("completed", *NOTHING)}
CALLS = {
    "agent.tool_use": "builtin",
    "agent.mcp_tool_use": "mcp",
    "agent.custom_tool_use": "custom",
}


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", ""))


def seconds(first: str | None, last: str | None) -> float | None:
    return (moment(last) - moment(first)).total_seconds() if first and last else None


def quantiles(levels: Iterable[float], values: Iterable[float | None]) -> list[float]:
    """Between two values in proportion, as ClickHouse's `quantiles` of few values."""
    ranked = sorted(value for value in values if value is not None)
    found = []
    for level in levels:
        place = level * (len(ranked) - 1)
        low, part = int(place), place - int(place)
        found.append(ranked[low] + part * (ranked[min(low + 1, len(ranked) - 1)] - ranked[low]))
    return found


def usd(turns: Iterable[Json]) -> float:
    return float(sum(turn["cost_usd"] for turn in turns))


def grouped(rows: Iterable[Json], key: Callable[[Json], Any]) -> dict[Any, list[Json]]:
    found: dict[Any, list[Json]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return dict(sorted(found.items()))


class Log:
    """The events of one tenant, in the order of the log, and what they tell of turns, calls and requests."""

    def __init__(self, lines: Iterable[bytes], now: datetime) -> None:
        self.events: list[Json] = [json.loads(line) for line in lines]
        self.now = now

    @cached_property
    def turns(self) -> list[Json]:
        """Each turn as its last event tells, with its session."""
        last: dict[SessionKey, Json] = {}
        for event in self.events:
            if event["type"].startswith("turn."):
                last[event["session_id"], event["turn_id"]] = event
        return [
            {**event["data"], "session_id": session, "at": event["at"]}
            for (session, _), event in last.items()
        ]

    @cached_property
    def calls(self) -> list[Json]:
        """Each tool call, with `seconds` and `is_error` of its first answer, if any."""
        calls = {
            event["event_id"]: {
                **event,
                "kind": CALLS[event["type"]],
                "name": event["data"]["name"],
            }
            for event in self.events
            if event["type"] in CALLS
        }
        for event in self.events:
            data = event["data"]
            for name in ("tool_use_id", "mcp_tool_use_id", "custom_tool_use_id"):
                call = calls.get(data.get(name, ""))
                if call and event["type"].endswith("tool_result") and "seconds" not in call:
                    call["seconds"] = seconds(call["at"], event["at"])
                    call["is_error"] = data["is_error"]
        return list(calls.values())

    @cached_property
    def requests(self) -> list[Json]:
        """Each model request that ended: tokens, seconds, seconds to the first output."""
        starts = {e["event_id"]: e for e in self.events if e["type"] == "span.model_request_start"}
        outputs = grouped(
            (e for e in self.events if e["type"] in {"agent.message", "agent.thinking", *CALLS}),
            thread_of,
        )
        found = []
        for end in self.events:
            if end["type"] == "span.model_request_end":
                start = starts[end["data"]["model_request_start_id"]]
                within = [
                    o["at"]
                    for o in outputs.get(thread_of(end), [])
                    if start["at"] <= o["at"] <= end["at"]
                ]
                first = seconds(start["at"], min(within)) if within else None
                took = seconds(start["at"], end["at"])
                found.append({**end, **end["data"]["model_usage"], "took": took, "first": first})
        return found

    @cached_property
    def sessions(self) -> dict[str, list[Json]]:
        return grouped(self.events, lambda event: event["session_id"])

    def active(self, events: Iterable[Json]) -> dict[str, float]:
        """Seconds of running time by day, of one session."""
        days: dict[str, float] = defaultdict(float)
        before = 0.0
        for event in events:
            if event["type"] == "session.rotated":
                before = 0.0
            if event["type"] == "session.usage":
                now = event["data"]["usage"]["active_seconds"]
                days[event["at"][:10]] += now - before
                before = now
        return days


def thread_of(event: Json) -> tuple[str, str, str]:
    return event["session_id"], event["turn_id"] or "", event["thread_id"] or ""
