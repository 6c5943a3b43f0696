"""One suite for conversations that are kept here: in memory, on SQLite, on PostgreSQL."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.agent_worker.adapters.conversations import SqlConversations
from services.agent_worker.adapters.engine import make_engine
from services.agent_worker.ports import Conversations, Entry
from shared.errors import Transient
from tests.fakes.conversations import MemoryConversations

pytestmark = pytest.mark.contract
KEY = ("acme", "ses_1")
FIRST = Entry(position=0, source="open", said=b'{"name":"a"}')


@pytest.fixture
async def conversations(engine: AsyncEngine | None) -> Conversations:
    kept: Conversations = MemoryConversations() if engine is None else SqlConversations(engine)
    await kept.forget("conv_1")
    return kept


def entry(position: int, source: str = "") -> Entry:
    return Entry(position=position, source=source or f"#{position}", event=b"{}", said=b"[1]")


async def test_what_was_added_is_read_in_order(conversations: Conversations) -> None:
    await conversations.open(KEY, "conv_1", FIRST)
    assert await conversations.append("conv_1", [entry(1), entry(2)])
    assert await conversations.append("conv_1", [entry(3)])
    assert await conversations.read("conv_1") == [FIRST, entry(1), entry(2), entry(3)]
    assert await conversations.read("conv_1", after=1) == [entry(2), entry(3)]


async def test_who_begins_it_second_gets_the_first_one(conversations: Conversations) -> None:
    await conversations.open(KEY, "conv_1", FIRST)
    other = Entry(position=0, source="open", said=b'{"name":"b"}')
    assert await conversations.open(KEY, "conv_1", other) == FIRST


async def test_only_what_follows_the_newest_entry_is_added(conversations: Conversations) -> None:
    await conversations.open(KEY, "conv_1", FIRST)
    assert await conversations.append("conv_1", [entry(1)])
    assert not await conversations.append("conv_1", [entry(1, "late")])
    assert not await conversations.append("conv_1", [entry(3)])
    assert not await conversations.append("conv_1", [entry(2, "ok"), entry(3, "#1")])
    assert await conversations.read("conv_1") == [FIRST, entry(1)]


async def test_of_many_at_once_one_adds(conversations: Conversations) -> None:
    await conversations.open(KEY, "conv_1", FIRST)
    added = await asyncio.gather(
        *(conversations.append("conv_1", [entry(1, f"by {n}"), entry(2)]) for n in range(8))
    )
    assert sum(added) == 1
    assert len(await conversations.read("conv_1")) == 3


async def test_nothing_is_added_to_what_was_forgotten(conversations: Conversations) -> None:
    await conversations.open(KEY, "conv_1", FIRST)
    await conversations.forget("conv_1")
    assert not await conversations.append("conv_1", [entry(1)])
    assert await conversations.read("conv_1") == []


async def test_a_database_that_is_away_is_said_to_be() -> None:
    engine = make_engine("postgresql+asyncpg://nobody@127.0.0.1:1/none", pool=1)
    with pytest.raises(Transient) as caught:
        await SqlConversations(engine).read("conv_1")
    await engine.dispose()
    assert caught.value.reason == "database_away"
