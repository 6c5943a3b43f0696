"""Reads wait for the tables to know what was heard live, and no longer than their patience."""

from __future__ import annotations

import asyncio

import pytest

from services.gateway.ports import Record
from services.gateway.read_model.caught_up import CaughtUp
from services.gateway.read_model.projector import Projector
from services.gateway.views import SessionPage
from shared.bus.topics import EVENTS
from shared.errors import Transient
from shared.session.key import SessionKey
from tests.fakes.gateway import MemoryReadModel, MemoryRecordConsumer
from tests.unit.gateway.desk import KEY, NOON, Desk, an_event

pytestmark = pytest.mark.unit
ACCEPTED = {
    "turn_id": "turn_1",
    "user_id": "u1",
    "status": "accepted",
    "submitted_at": "2026-11-21T12:00:00.000000Z",
    "content": "hello",
    "input_id": "in_1",
}


class Late(MemoryReadModel):
    """Tables that are written when they were read so often."""

    looks: int = 0
    after: int = 0

    async def session(self, key: SessionKey) -> SessionPage | None:
        self.looks += 1
        if self.after and self.looks == self.after:
            record = Record(EVENTS.name, 0, 0, KEY[1].encode(), _accepted(), [])
            await Projector(MemoryRecordConsumer([[record]]), self, lambda _: True).step()
        return await MemoryReadModel.session(self, key)


def _accepted() -> bytes:
    return an_event(1, type="turn.accepted", data=ACCEPTED)


async def test_a_turn_that_was_heard_is_read_when_the_tables_have_it() -> None:
    late = Late()
    desk = Desk(read_model=late, patience=60.0)
    await desk.open()
    desk.publish(1, type="turn.accepted", data=ACCEPTED)
    late.looks, late.after = 0, 3
    async with desk.client() as client:
        turn = await client.get("/v1/sessions/ses_1/turns/turn_1")
        session = await client.get("/v1/sessions/ses_1")
    assert (turn.status_code, turn.json()["status"]) == (200, "accepted")
    assert late.looks > 3
    assert session.json()["last_seq"] == 1


async def test_tables_that_stay_behind_are_told_as_they_are() -> None:
    desk = Desk(read_model=(late := Late()), patience=0.1)
    await desk.open()
    desk.publish(1, type="turn.accepted", data=ACCEPTED)
    late.looks = 0
    async with desk.client() as client, asyncio.timeout(30):
        assert (await client.get("/v1/sessions/ses_1")).json()["last_seq"] == 0
    assert late.looks == 3


async def test_nothing_is_waited_for_that_was_not_heard_or_cannot_be_known() -> None:
    desk = Desk(read_model=(late := Late()))
    waiting = CaughtUp(late, desk.live.ring, patience=3600.0)
    async with asyncio.timeout(30):
        assert await waiting.session(KEY) is None
        assert late.looks == 1
        desk.publish(1, at=NOON)
        late.down = True
        with pytest.raises(Transient):
            await waiting.session(KEY)
