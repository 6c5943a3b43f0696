"""Sessions that are archived and take turns: their streams go on, and their turns are let in."""

from __future__ import annotations

import pytest

from services.gateway.register import known
from services.gateway.streams import follow as follow_module
from shared.clock import utcnow
from tests.unit.gateway.desk import KEY
from tests.unit.gateway.test_events import EVENTS, a_desk, shown

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("reason", ["idle", "done"])
async def test_a_stream_goes_on_when_a_session_is_archived_that_takes_turns(
    monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    monkeypatch.setattr(follow_module, "GOODBYE_SECONDS", 0.0)
    desk = await a_desk(archived=1, logged=1)
    async with desk.stream(EVENTS) as stream:
        assert await stream.seqs(1) == [1]
        desk.publish(2, type="session.archived", data={"reason": reason}, at=utcnow())
        desk.publish(3, type="session.status_terminated", at=utcnow())
        assert await stream.seqs(2) == [2, 3]
        desk.publish(4, type="turn.accepted", at=utcnow())
        assert await stream.seqs(1) == [4]


async def test_a_session_that_is_archived_and_takes_turns_has_a_stream() -> None:
    desk = await a_desk(archived=3, logged=3)
    shown(desk, status="archived", resumable=True)
    async with desk.stream(EVENTS, {"Last-Event-ID": "3"}) as stream:
        await stream.opened()
        desk.publish(4, type="turn.accepted")
        assert await stream.seqs(1) == [4]


async def test_a_session_that_is_archived_and_takes_turns_is_open_to_them() -> None:
    desk = await a_desk(archived=3, logged=3)
    for resumable, closed in ((True, None), (False, "archive")):
        shown(desk, status="archived", resumable=resumable)
        assert known(desk.read_model.rows[KEY].page).closed == closed
