"""A read of the history is one span, whatever it was joined from, and says how much it gave."""

from __future__ import annotations

import pytest

from services.gateway.streams.history import Hole
from tests.tracing import parent_of, text_of, tracing
from tests.unit.gateway.desk import KEY, Desk, an_entry

pytestmark = pytest.mark.unit


async def test_a_read_of_history_says_how_much_it_gave() -> None:
    desk = Desk()
    await desk.open()
    desk.archive.entries[KEY] = [an_entry(1), an_entry(2)]
    desk.log.entries[KEY] = [an_entry(seq) for seq in (1, 2, 3)]
    with tracing() as kept:
        async with desk.client() as client:
            page = await client.get(
                "/v1/sessions/ses_1/events?after=1", headers={"Accept": "application/json"}
            )
            assert page.json()["next_after"] == 1  # nothing newer is known of
        assert kept.spans("history.read") == []
        assert [entry.seq async for entry in desk.history.read(KEY, 1, 3)] == [2, 3]
        span = kept.one("history.read")
    assert dict(span.attributes or {}) == {"turnstile.after": 1, "turnstile.events": 2}


async def test_a_read_for_a_request_is_below_the_requests_span() -> None:
    desk = Desk()
    await desk.open()
    with tracing() as kept:
        async with desk.client() as client:
            desk.publish(1)
            found = await client.get("/v1/sessions/ses_1/replay?speed=0")
            assert found.status_code == 200
            await client.get("/readyz")
        names = [span.name for span in kept.spans()]
        request = kept.one("GET /v1/sessions/{session_id}/replay")
        assert names == ["history.read", request.name]
        assert parent_of(kept.one("history.read")) == text_of(request)


async def test_a_hole_marks_the_span() -> None:
    desk = Desk()
    await desk.open()
    with tracing() as kept:
        with pytest.raises(Hole):
            _ = [entry async for entry in desk.history.read(KEY, 0, 2)]
        span = kept.one("history.read")
    assert (span.attributes or {})["error.type"] == "history_unavailable"
