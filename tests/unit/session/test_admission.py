"""What of outside is let in: requests that make sense beyond their shape."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shared.session.admission import admit

pytestmark = pytest.mark.unit
# When the request came, by our clock.
NOW = "2026-11-21T12:00:00.000000Z"
TURN = {
    "tenant_id": "acme",
    "session_id": "ses_1",
    "turn_id": "t1",
    "user_id": "u1",
    "content": "hello",
    "at": "2026-11-21T12:00:00Z",
}
BOTTOMLESS = msgspec.Raw(b"[" * 100_000 + b"]" * 100_000)


def nested(levels: int) -> msgspec.Raw:
    """A list in a list in a list …"""
    return msgspec.Raw(b"[" * levels + b"]" * levels)


def asked(**change: Any) -> bytes:
    return msgspec.json.encode({**TURN, **change})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"content": " \n\u3000"}, "$.content"),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": " "}]}, "$.content"),
        ({"content": [{"text": "a"}]}, "$.content"),
        ({"content": [{"type": "image", "source": nested(32)}]}, "$.content"),
        ({"content": [{"type": "image", "source": BOTTOMLESS}]}, "nested too deeply"),
        ({"at": "yesterday"}, "$.at"),
        ({"at": "2026-11-21T12:00:00"}, "no UTC offset - at `$.at`"),
        ({"at": "0001-01-01T00:00:00+23:00"}, "$.at"),
        ({"at": "0001-01-01T00:00:00Z"}, "$.at"),
        ({"at": "9999-12-31T23:59:59-23:00"}, "$.at"),
        ({"at": "2026-11-22T12:00:00.000001Z"}, "a day ahead"),
        ({"at": "2026-11-23T00:00:00+10:00"}, "$.at"),
    ],
)
def test_what_makes_no_sense_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        admit("turn.requested", asked(**change), NOW)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    "change",
    [
        {"content": [{"type": "image", "source": {"type": "url", "url": "https://a.example"}}]},
        {"content": "a\0b"},
        {"at": "1999-12-31T23:59:59.123456789+14:00"},
        {"at": "2026-11-22T12:00:00Z"},
    ],
)
def test_what_is_only_unusual_comes_in(change: dict[str, Any]) -> None:
    assert admit("turn.requested", asked(**change), NOW)


def test_an_answers_depth_is_bounded_too() -> None:
    answer = {name: TURN[name] for name in ("tenant_id", "session_id", "at")}
    deep = {"custom_tool_use_id": "sevt_1", "content": [{"x": nested(32)}]}
    with pytest.raises(msgspec.ValidationError):
        admit("tool.answered", msgspec.json.encode({**answer, **deep}), NOW)
