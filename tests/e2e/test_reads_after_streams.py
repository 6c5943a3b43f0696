"""What a stream has told, a read that comes after it knows: also while the tables are behind."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.conversing import converse
from tests.e2e.world import World
from tests.family import children_of, paused

pytestmark = pytest.mark.e2e


async def test_who_heard_a_turn_end_reads_it_ended_however_late_the_tables_are(
    world: World, session_id: str
) -> None:
    api = world.api
    await api.open(session_id)
    projector = children_of(world.stack.pid("gateway"))
    with paused(*projector) as going_on:
        heard = await converse(api, session_id, ["hello"])
        # The tables know the opening at most: who asks gets what there is, after a while.
        assert (await api.turn(session_id, "turn-1"))["status"] == "accepted"
        assert (await api.session(session_id))["last_seq"] < heard[-1].seq
        turn = asyncio.ensure_future(api.turn(session_id, "turn-1"))
        session = asyncio.ensure_future(api.session(session_id))
        then = asyncio.ensure_future(api.session(session_id, at_seq=heard[-1].seq))
        # A request begins with these; nothing tells when the gateway has them.
        await asyncio.sleep(0.2)
        going_on()
        page = await session
        assert (page["status"], page["last_seq"]) == ("idle", heard[-1].seq)
        assert (await turn)["status"] == "completed"
        assert page == await then
