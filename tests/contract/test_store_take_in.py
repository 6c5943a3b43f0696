"""One suite for the worker's Store, in memory, on SQLite, on PostgreSQL: inputs filed by what takes them in."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from services.agent_worker.ports import Head, Store
from shared.session import decide
from shared.session.key import SessionKey
from tests.builders import turn
from tests.contract.store_rows import EXPIRED, KEY, LEASE, OTHER, asked, claimed

pytestmark = pytest.mark.contract


async def driven(store: Store, lease: float = LEASE) -> Head:
    """A claimed session that has taken in all it was asked, t1."""
    await store.file([asked("t1")])
    return await settled(store, await claimed(store, lease=lease))


async def settled(store: Store, head: Head) -> Head:
    (first,) = await store.unread(head.key, 0)
    return await store.write(replace(head, position=first.position, taken=1))


def taking(head: Head, *turn_ids: str) -> Head:
    """The head once these turns, which come next, are taken in."""
    state, events, commands = head.state, head.unsaid, head.todo
    for turn_id in turn_ids:
        decision = decide(state, turn(turn_id))
        state, events = decision.state, (*events, *decision.events)
        commands = (*commands, *decision.commands)
    taken = head.taken + len(turn_ids)
    return replace(head, state=state, unsaid=events, todo=commands, taken=taken)


async def test_inputs_are_filed_and_taken_in_at_once(store: Store) -> None:
    head = taking(await driven(store, EXPIRED), "t2", "t3")
    written = await store.take_in(head, [asked("t2"), asked("t3")])
    assert written is not None
    assert written == replace(head, version=2, position=written.position)
    (_, second, third) = await store.unread(KEY, 0)
    assert [second.filed.input_id, third.filed.input_id] == ["turn:t2", "turn:t3"]
    assert written.position == third.position > second.position
    assert await store.with_news("a") == set()
    assert await claimed(store, "b") == replace(written, epoch=2)


async def test_the_next_input_is_behind_what_was_taken_in(store: Store) -> None:
    written = await store.take_in(taking(await driven(store), "t2"), [asked("t2")])
    assert written is not None
    await store.file([asked("t3")])
    assert await store.with_news("a") == {KEY}
    (left,) = await store.unread(KEY, written.position)
    assert left.filed.input_id == "turn:t3"


async def test_what_was_filed_before_is_not_taken_in_again(store: Store) -> None:
    head = await driven(store)
    assert await store.take_in(taking(head, "t1"), [asked("t1", content="other words")]) is None
    assert await store.with_news("a") == set()
    assert await store.write(taking(head)) == replace(head, version=2)


async def test_one_that_is_new_among_repeats_is_filed_for_the_inbox(store: Store) -> None:
    head = await driven(store)
    assert await store.take_in(taking(head, "t1", "t2"), [asked("t1"), asked("t2")]) is None
    (left,) = await store.unread(KEY, head.position)
    assert left.filed.input_id == "turn:t2"
    assert await store.with_news("a") == {KEY}


async def test_what_was_filed_meanwhile_goes_first(store: Store) -> None:
    head = await driven(store)
    await store.file([asked("t2")])
    assert await store.take_in(taking(head, "t3"), [asked("t3")]) is None
    unread = await store.unread(KEY, head.position)
    assert [each.filed.input_id for each in unread] == ["turn:t2", "turn:t3"]
    written = await store.write(replace(taking(head, "t2", "t3"), position=unread[-1].position))
    assert written.taken == 3
    assert await store.with_news("a") == set()


async def test_a_repeat_and_one_filed_meanwhile_are_not_taken_for_two_new_ones(
    store: Store,
) -> None:
    head = await driven(store)
    await store.file([asked("t2")])
    assert await store.take_in(taking(head, "t1", "t3"), [asked("t1"), asked("t3")]) is None
    assert len(await store.unread(KEY, head.position)) == 2


async def test_who_was_overtaken_files_and_writes_nothing_else(store: Store) -> None:
    old = await driven(store, EXPIRED)
    new = await claimed(store, "b", lease=EXPIRED)
    assert await store.take_in(taking(old, "t2"), [asked("t2")]) is None
    assert await claimed(store, "c") == replace(new, epoch=3)
    (left,) = await store.unread(KEY, new.position)
    assert left.filed.input_id == "turn:t2"


async def test_a_session_let_go_of_meanwhile_is_due_with_what_was_filed(store: Store) -> None:
    head = await driven(store)
    await store.release(head, None)
    assert await store.take_in(taking(head, "t2"), [asked("t2")]) is None
    (again,) = await store.claim("b", 10, LEASE)
    assert (again.key, again.position) == (KEY, head.position)


async def test_sessions_that_take_in_at_the_same_time_do_not_mix(store: Store) -> None:
    """One of three was overtaken, one has a repeat."""
    await store.file([asked("t1", key=key) for key in (KEY, OTHER, THIRD)])
    heads = [await settled(store, head) for head in await store.claim("a", 10, LEASE)]
    heads = sorted(heads, key=lambda head: head.key)
    overtaken = replace(heads[1], epoch=0)
    asks = (
        (taking(heads[0], "t2"), [asked("t2", key=heads[0].key)]),
        (taking(overtaken, "t2"), [asked("t2", key=overtaken.key)]),
        (taking(heads[2], "t1"), [asked("t1", key=heads[2].key)]),
    )
    found = await asyncio.gather(*(store.take_in(head, inputs) for head, inputs in asks))
    assert [each is not None for each in found] == [True, False, False]
    assert found[0] is not None
    assert found[0].key == heads[0].key
    assert await store.with_news("a") == {overtaken.key}


THIRD: SessionKey = (KEY[0], "s3")
