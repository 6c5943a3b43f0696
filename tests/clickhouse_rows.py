"""Rows as the recorder inserts them, for tests of the schema."""

from __future__ import annotations

import json
from typing import Any

SETTINGS = {
    "input_format_json_read_objects_as_strings": 1,
    "input_format_skip_unknown_fields": 1,
    "date_time_input_format": "best_effort",
}
USAGE = {
    "input_tokens": 10,
    "output_tokens": 20,
    "cache_read_input_tokens": 30,
    "cache_creation_input_tokens": 40,
}


def event(seq: int, type_: str, data: str = "{}", **fields: Any) -> bytes:
    """The value of one event on Kafka; `data` is put in as it is."""
    known = {
        "tenant_id": "acme",
        "session_id": "ses_1",
        "seq": seq,
        "event_id": f"evt_{seq}",
        "type": type_,
        "turn_id": "t1",
        "user_id": "u1",
        "thread_id": None,
        "model": None,
        "trace_id": "",
        "at": f"2026-11-21T10:00:00.{seq:06}Z",
        **fields,
    }
    return json.dumps(known).encode()[:-1] + b', "data": ' + data.encode() + b"}\n"


def turn(status: str, cost: float = 0.0, **fields: Any) -> str:
    return json.dumps(
        {
            "turn_id": "t1",
            "status": status,
            "submitted_at": "2026-11-21T10:00:00.000000Z",
            "started_at": "2026-11-21T10:00:00.250000Z",
            "first_token_at": None,
            "ended_at": None,
            "attempts": 1,
            "usage": {"input_tokens": 1, "output_tokens": 2, "cache_read_tokens": 3,
                      "cache_write_tokens": 4},
            "cost_usd": cost,
            "tool_calls": 5,
            "stop_reason": None,
            "error": None,
            **fields,
        }
    )  # fmt: skip


def a_turn() -> list[bytes]:
    return [
        event(1, "turn.accepted", turn("accepted", started_at=None)),
        event(2, "turn.started", turn("running", 0.1)),
        event(3, "span.model_request_end", json.dumps({"id": "sevt_3", "model_usage": USAGE})),
        event(4, "agent.tool_use", '{"id": "sevt_4", "name": "search", "input": {"name": "x"}}'),
        event(5, "agent.tool_result", '{"id": "sevt_5", "is_error": true}'),
        event(6, "turn.completed", turn("completed", 0.123456, stop_reason="end_turn",
              first_token_at="2026-11-21T10:00:01Z", ended_at="2026-11-21T10:00:02.5Z")),
    ]  # fmt: skip
