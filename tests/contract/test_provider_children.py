"""Child threads cost what they do, not that they are known: their lists are read when they ran."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from tests.contract.provider_talk import DEADLINE_S, Talk
from tests.contract.provider_worlds import STREAM, WireWorld

pytestmark = pytest.mark.contract


async def read(wire: WireWorld, talk: Talk, since: int = 0) -> tuple[set[str], int]:
    """The children of the session whose lists were asked for since then; how many requests there were by now."""
    asked = await wire.requests()
    path = re.compile(rf"/v1/sessions/{talk.session}/threads/([^/]+)/events$")
    found = (path.search(one["path"]) for one in asked[since:])
    return {match.group(1) for match in found if match}, len(asked)


async def children(talk: Talk) -> set[str]:
    log = await talk.world.log(talk.session)
    return {thread for thread in log.events if thread is not None}


async def test_only_children_that_ran_are_read_before_an_idle(healed: WireWorld) -> None:
    talk = Talk(healed)
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.turn("together [[script: threads children=4]]")
        made = await children(talk)
        assert len(made) == 4
        seen, now = await read(healed, talk)
        assert seen == made
        await talk.turn("rest")  # what they said last may have come after their lists were read
        _, now = await read(healed, talk)
        for n in range(3):
            await talk.turn(f"alone {n}")
        assert (await read(healed, talk, now))[0] == set()
    await talk.check_all_heard_once()


async def test_a_child_that_runs_again_is_read_again(healed: WireWorld) -> None:
    talk = Talk(healed)
    await talk.open()
    async with talk.watching(fresh=True):
        for n in range(6):
            await talk.turn(f"again {n} [[script: threads children=2]]")
    async with talk.watching():
        for n in range(3):
            await talk.turn(f"and again {n} [[script: threads children=1]]")
    await talk.check_all_heard_once()


@pytest.mark.parametrize("kind", ["cut", "reset"])
async def test_a_child_whose_stream_is_gone_is_read_from_its_list(
    healed: WireWorld, kind: str
) -> None:
    """No child's stream can be had any more, from the first event of theirs on."""
    talk = Talk(healed)
    await talk.open()
    gone: Any = {"kind": "respond", "status": 404}
    where = {"method": "GET", "path": "/threads/[^/]+/stream$"}
    await healed.rules({"match": where, "fault": gone}, _broken(kind))
    async with talk.watching(fresh=True), asyncio.timeout(DEADLINE_S):
        for n in range(3):
            await talk.turn(f"{kind} {n} [[script: threads children=2]]")
    await talk.check_all_heard_once()


def _broken(kind: str) -> Any:
    match = {**STREAM, "path": "events/stream$", "times": 1}
    return {"match": match, "fault": {"kind": kind, "after": 6}}
