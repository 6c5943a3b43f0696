"""Sessions on the Messages API whose driver dies: one answer to each turn, whatever the instant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.session import provider
from tests.contract.messages_place import (
    Place,
    a_place,
    a_talk,
    answered,
)
from tests.contract.provider_talk import DEADLINE_S, Talk
from tests.fakes.conversations import MemoryConversations

pytestmark = pytest.mark.contract


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with a_place() as place:
        yield place


class Killed(BaseException):
    """The process died."""


class Dying(MemoryConversations):
    """A store whose caller dies at its nth addition: before it lands, or right after."""

    def __init__(self, at: int, *, landed: bool) -> None:
        super().__init__()
        self.left = at
        self.died = asyncio.Event()
        self._landed = landed

    async def append(self, conversation: str, entries: Any) -> bool:
        self.left -= 1
        dies = self.left == 0
        if self.died.is_set() or (dies and not self._landed):
            self.died.set()
            raise Killed
        added = await super().append(conversation, entries)
        if dies:
            self.died.set()
            raise Killed
        return added


async def played(place: Place, talk: Talk, text: str) -> None:
    """A turn with two rounds of two calls, by a driver that goes on from wherever the conversation is."""
    done: set[str] = set()
    async with talk.watching():
        await talk.send(text, look=True)
        while talk.state.turn is not None:
            for action in talk.state.pending:
                if action.tool_use_id not in done:
                    done.add(action.tool_use_id)
                    await answered(talk, action.tool_use_id)
            if talk.state.turn is not None:
                await talk.hear("session.status_idle")


ADDITIONS = 11  # of such a turn: the message, three answers with their beginnings, four results


@pytest.mark.parametrize("landed", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, ADDITIONS + 1))
async def test_killed_at_any_addition_the_turn_ends_with_one_answer(
    place: Place, at: int, landed: bool
) -> None:
    place.store = store = Dying(at, landed=landed)
    place.provider = place.driver()
    talk = a_talk(place)
    await talk.open()
    text = "[[script: custom_tool calls=2 rounds=2]] look"
    talk.ask(text) if talk.state.turn is None else None
    playing = asyncio.create_task(played(place, talk, text))
    dying = asyncio.create_task(store.died.wait())
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.wait({playing, dying}, return_when=asyncio.FIRST_COMPLETED)
    playing.cancel()
    await asyncio.wait({playing})
    assert store.died.is_set(), "the play has fewer additions than are tried"
    store.died.clear()
    place.provider = place.driver()
    async with asyncio.timeout(DEADLINE_S):
        await played(place, talk, text)
    assert talk.told.count("turn.completed") == 1
    entries = next(iter(store.kept.values()))
    recorded = [provider.head(entry.event).type for entry in entries[1:]]
    assert recorded.count("user.message") == 1
    assert recorded.count("agent.message") == 1
    assert recorded.count("agent.custom_tool_use") == 4
    assert recorded.count("user.custom_tool_result") == 4
    assert [event.id for event in talk.heard] == [
        provider.head(entry.event).id for entry in entries[1:]
    ]
    assert {one["status"] for one in await place.asked()} == {200}
