"""How a replayed event reads."""

import json
from typing import Any

import pytest
from msgspec import Raw

from services.operator.line import as_json, line, pause
from shared.session.events import Event

pytestmark = pytest.mark.unit

AT = "2026-11-21T10:00:00.123456Z"


def event(kind: str, data: Any) -> Event:
    text = data if isinstance(data, str) else json.dumps(data)
    return Event(
        tenant_id="acme",
        session_id="s1",
        seq=7,
        event_id="sevt_7",
        type=kind,
        turn_id="t1",
        at=AT,
        user_id="u1",
        data=Raw(text.encode()),
    )


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("agent.message", {"content": [{"type": "text", "text": "Good\nday"}]}, "Good day"),
        ("turn.accepted", {"content": "Hello"}, "Hello"),
        ("turn.completed", {"status": "completed", "reply": "Good day"}, "completed: Good day"),
        ("turn.failed", {"error": {"type": "gone", "message": "it left"}}, "gone: it left"),
        ("agent.tool_use", {"name": "grep", "input": {"q": "é"}}, 'grep {"q": "é"}'),
        ("session.rotated", {"reason": "terminated"}, "terminated"),
        ("user.message", {"content": [{"type": "image"}]}, "[image]"),
    ],
)
def test_the_line_says_what_the_event_says(kind: str, data: Any, words: str) -> None:
    text = line(event(kind, data))
    assert text.split()[:3] == ["7", "10:00:00.123", kind]
    assert text.endswith(words)


@pytest.mark.parametrize("data", ["{broken", "[]", "7", '{"content": 7}', '{"content": [null]}'])
def test_strange_data_never_stops_a_replay(data: str) -> None:
    assert "agent.message" in line(event("agent.message", data))


def test_nothing_in_an_event_speaks_to_the_terminal() -> None:
    said = "red \x1b[31m, bell \x07, turned \u202e, half \ud83d, whole 👩\u200d🚀"
    text = line(event("agent.message", {"content": said}))
    assert text.endswith(
        "red \ufffd[31m, bell \ufffd, turned \ufffd, half \ufffd, whole 👩\u200d🚀"
    )
    text.encode()


def test_json_keeps_the_data_as_it_came() -> None:
    text = as_json(event("agent.message", '{"n": 1e400,\n "s": "\\u00e9"}'))
    assert text.endswith('"data": {"n": 1e400,  "s": "\\u00e9"}}')
    assert "\n" not in text


@pytest.mark.parametrize(
    ("before", "speed", "seconds"),
    [
        ("", 1, 0),
        ("2026-11-21T09:59:58.123456Z", 0, 0),
        ("2026-11-21T09:59:58.123456Z", 1, 2),
        ("2026-11-21T09:59:58.123456Z", 10, 0.2),
        ("2026-11-21T10:00:09.000000Z", 1, 0),
    ],
)
def test_pauses_follow_the_recording(before: str, speed: float, seconds: float) -> None:
    assert pause(before, AT, speed) == pytest.approx(seconds)
