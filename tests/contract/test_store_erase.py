"""One suite for the worker's Store: in memory, on SQLite, on PostgreSQL. What an erasure leaves of a session."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from services.agent_worker.ports import Store
from services.agent_worker.session.forget import forgotten
from shared.clock import utcnow
from shared.errors import Fenced
from shared.moment import rfc3339
from tests.contract.store_rows import EXPIRED, KEY, OTHER, advanced, asked, claimed

pytestmark = pytest.mark.contract


async def test_an_erasure_forgets_what_was_taken_in(store: Store) -> None:
    await store.file([asked("t1"), asked("t2"), asked("t1", key=OTHER)])
    heads = {head.key: head for head in await store.claim("a", 10, EXPIRED)}
    unread = await store.unread(KEY, 0)
    head = replace(advanced(heads[KEY]), position=unread[-1].position, taken=2)
    await store.erase(forgotten(head, []), None)
    assert await store.unread(KEY, 0) == []
    with pytest.raises(KeyError):
        await store.read(KEY, "turn:t1")
    assert len(await store.unread(OTHER, 0)) == 1
    (left,) = await store.claim("b", 10, EXPIRED)
    assert left.key == OTHER


async def test_an_input_that_comes_during_an_erasure_makes_the_session_due(store: Store) -> None:
    await store.file([asked("t1")])
    head = await claimed(store)
    (first,) = await store.unread(KEY, 0)
    await store.file([asked("t2")])
    head = replace(advanced(head), position=first.position, taken=1)
    await store.erase(forgotten(head, []), None)
    again = await claimed(store, "b")
    assert (again.epoch, again.unsaid, again.todo) == (2, (), ())
    assert [unread.filed.input_id for unread in await store.unread(KEY, again.position)] == [
        "turn:t2"
    ]


async def test_a_provider_session_that_is_left_makes_the_erased_session_due_again(
    store: Store,
) -> None:
    await store.file([asked("t1")])
    head = await claimed(store)
    (first,) = await store.unread(KEY, 0)
    head = replace(advanced(head), position=first.position, taken=1)
    await store.erase(forgotten(head, ["sesn_1"]), rfc3339(utcnow()))
    assert (await claimed(store, "b")).state.given_up == ("sesn_1",)


async def test_an_erasure_under_an_old_epoch_is_fenced(store: Store) -> None:
    await store.file([asked("t1")])
    old = await claimed(store, lease=EXPIRED)
    await claimed(store, "b")
    with pytest.raises(Fenced):
        await store.erase(forgotten(replace(old, position=99, taken=1), []), None)
    assert len(await store.unread(KEY, 0)) == 1
