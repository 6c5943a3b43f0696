"""What one reader is shown of a message in the making: a beginning of it, whatever was lost on the way."""

from __future__ import annotations

import json

import pytest

from services.gateway.streams import live as live_module
from services.gateway.streams.live import Live, Preview, Subscription, read_heading
from tests.unit.gateway.desk import KEY, an_event

pytestmark = pytest.mark.unit


def a_preview(message: str, number: int) -> bytes:
    """The value of a record on the previews topic."""
    content = {"type": "text", "text": f"{number}"}
    delta = {"type": "content_delta", "index": 0, "content": content}
    start = {"type": "event_start", "event": {"type": "agent.message", "id": message}}
    data = {"type": "event_delta", "event_id": message, "delta": delta} if number else start
    whose = {"tenant_id": KEY[0], "session_id": KEY[1], "type": data["type"]}
    return json.dumps({**whose, "number": number, "data": data}).encode()


def show(live: Live, message: str, *numbers: int) -> None:
    for number in numbers:
        value = a_preview(message, number)
        live.preview(read_heading(value), value)


async def shown(reader: Subscription) -> list[tuple[str, int]]:
    """Message and number of each preview that waits."""
    found = []
    while (item := await reader.next(0.0)) is not None:
        if isinstance(item, Preview):
            value = json.loads(item.record.partition(b"\ndata: ")[2])
            data = value["data"]
            found.append((data.get("event_id") or data["event"]["id"], value["number"]))
    return found


async def test_a_message_is_shown_up_to_what_is_missing() -> None:
    live = Live()
    reader = live.subscribe(KEY, previews=True)
    show(live, "whole", 0, 1, 2)
    show(live, "holed", 0, 1, 3, 2, 4)
    whole = [("whole", 0), ("whole", 1), ("whole", 2)]
    assert await shown(reader) == [*whole, ("holed", 0), ("holed", 1)]
    show(live, "whole", 3)
    show(live, "holed", 2)
    assert await shown(reader) == [("whole", 3)]


async def test_a_reader_that_comes_in_the_middle_of_a_message_is_shown_the_next_one() -> None:
    live = Live()
    show(live, "m", 0, 1)
    reader = live.subscribe(KEY, previews=True)
    show(live, "m", 2, 3)
    show(live, "n", 0, 1)
    assert await shown(reader) == [("n", 0), ("n", 1)]


async def test_a_message_begun_anew_is_shown_no_further() -> None:
    live = Live()
    reader = live.subscribe(KEY, previews=True)
    show(live, "m", 0, 1, 0, 1, 2)
    assert await shown(reader) == [("m", 0), ("m", 1)]


async def test_a_reader_that_is_too_slow_is_shown_no_more_of_a_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live_module, "QUEUE_EVENTS", 3)
    live = Live()
    reader = live.subscribe(KEY, previews=True)
    show(live, "m", 0, 1, 2, 3)
    assert reader.lagged
    reader.resume()
    show(live, "m", 4)
    show(live, "n", 0, 1)
    assert await shown(reader) == [("n", 0), ("n", 1)]


async def test_a_message_that_is_there_is_not_shown_any_more() -> None:
    live = Live()
    reader = live.subscribe(KEY, previews=True)
    show(live, f"{KEY[1]}:1", 0, 1)
    value = an_event(1, "agent.message")
    live.event(read_heading(value), value)
    show(live, f"{KEY[1]}:1", 2)
    assert await shown(reader) == [(f"{KEY[1]}:1", 0), (f"{KEY[1]}:1", 1)]


async def test_what_is_known_of_messages_is_bounded() -> None:
    live = Live()
    reader = live.subscribe(KEY, previews=True)
    for number in range(3 * live_module.MAX_SHOWN):
        show(live, f"m{number}", 0, 1, 3)
        show(live, f"other{number}", 5)
    assert len(reader._shown) == live_module.MAX_SHOWN


async def test_a_preview_without_a_place_is_of_no_use() -> None:
    live = Live()
    reader = live.subscribe(KEY, previews=True)
    value = b'{"tenant_id":"acme","session_id":"ses_1","type":"event_delta","data":{}}'
    live.preview(read_heading(value), value)
    assert await shown(reader) == []
