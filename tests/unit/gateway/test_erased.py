"""What a client is told of an erased session, and what a gateway still has of it in memory."""

from __future__ import annotations

import pytest

from services.gateway.read_model.project import Projection
from services.gateway.streams.live import Live, read_heading
from shared.session.events import read_event
from tests.unit.gateway.desk import KEY, an_event
from tests.unit.gateway.test_events import EVENTS, a_desk

pytestmark = pytest.mark.unit
AT = "2026-11-21T12:00:00.000000Z"


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (EVENTS, {}),
        (EVENTS, {"Accept": "application/json"}),
        ("/v1/sessions/ses_1/replay?speed=0", {}),
        ("/v1/sessions/ses_1?at_seq=1", {}),
    ],
)
async def test_an_erased_session_has_nothing_to_read_and_says_so(
    path: str, headers: dict[str, str]
) -> None:
    desk = await a_desk(archived=3, logged=3)
    projection = Projection(desk.read_model.rows)
    closed = an_event(4, "session.erased", {"reason": "requested"}, turn_id=None)
    projection.event(read_event(closed))
    await desk.read_model.save(projection.finish())
    async with desk.client() as client:
        answer = await client.get(path, headers=headers)
        session = await client.get("/v1/sessions/ses_1")
    assert answer.status_code == 409
    problem = answer.json()
    assert problem["type"] == "urn:turnstile:problem:session_erased"
    assert AT in problem["detail"]
    assert (session.status_code, session.json()["status"]) == (200, "erased")


def test_the_ring_forgets_an_erased_session() -> None:
    live = Live(ring_bytes=2_000)

    def publish(seq: int, kind: str) -> None:
        value = an_event(seq, kind, {"text": "x" * 300})
        live.event(read_heading(value), value)

    for seq in range(1, 4):
        publish(seq, "agent.message")
    assert len(live.ring.after(KEY, 0)) == 3
    publish(4, "session.erased")
    assert live.ring.after(KEY, 0) == []
    for seq in range(5, 25):  # over its bound, with places of what was forgotten in its order
        publish(seq, "agent.message")
    assert [entry.seq for entry in live.ring.after(KEY, 0)][-1] == 24
    assert 0 < sum(len(entry.value) for entry in live.ring.after(KEY, 0)) <= 2_000
