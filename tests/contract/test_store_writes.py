"""One suite for the worker's Store: in memory, on SQLite, on PostgreSQL. Writes and releases of heads."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import msgspec
import pytest
from msgspec.structs import replace

from services.agent_worker.ports import Head, Store
from shared.clock import utcnow
from shared.errors import Fenced
from shared.moment import rfc3339
from shared.session import decide
from shared.session.commands import Open
from tests.builders import TENANT, seen
from tests.builders import Wire as ProviderWire
from tests.contract.store_rows import EXPIRED, KEY, LEASE, OTHER, advanced, asked, claimed

pytestmark = pytest.mark.contract


# ---- writes ---------------------------------------------------------------------------------------------------


async def test_a_write_is_what_the_next_claim_finds(store: Store) -> None:
    await store.file([asked()])
    before = advanced(await claimed(store, lease=EXPIRED))
    written = await store.write(before)
    assert written == replace(before, version=1)
    after = await claimed(store, "b")
    assert after == replace(written, epoch=2)
    assert after.todo == (Open(turn_id="t1"),)


async def test_unsaid_events_keep_their_bytes(store: Store) -> None:
    """What the provider wrote stays as it was written: spaces, escapes, order, numbers."""
    await store.file([asked()])
    head = advanced(await claimed(store, lease=EXPIRED))
    verbatim = rb'{ "z":1.0e2,"type":"agent.message", "id":"e1","content":[], "\u00e9":"\ud83d\ude00 /\/" }'
    event = replace(ProviderWire().message(""), id="e1", raw=verbatim)
    decision = decide(head.state, seen(event))
    await store.write(replace(head, state=decision.state, unsaid=decision.events))
    (unsaid,) = (await claimed(store, "b")).unsaid
    assert bytes(unsaid.data) == verbatim
    assert msgspec.json.encode(unsaid) == msgspec.json.encode(decision.events[0])


async def test_a_write_under_an_old_epoch_is_fenced(store: Store) -> None:
    await store.file([asked()])
    old = await claimed(store, lease=EXPIRED)
    new = await claimed(store, "b", lease=EXPIRED)
    with pytest.raises(Fenced):
        await store.write(advanced(old))
    with pytest.raises(Fenced):
        await store.release(advanced(old), None)
    assert (await claimed(store, "c")) == replace(new, epoch=3)


async def test_a_write_of_an_old_version_is_fenced(store: Store) -> None:
    await store.file([asked()])
    head = await claimed(store)
    await store.write(advanced(head))
    with pytest.raises(Fenced):
        await store.write(head)
    with pytest.raises(Fenced):
        await store.release(head, None)


async def test_of_two_writes_at_once_one_wins(store: Store) -> None:
    await store.file([asked()])
    head = await claimed(store)
    writes = (store.write(replace(head, position=n, taken=n)) for n in range(8))
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert sum(isinstance(result, Head) for result in results) == 1
    assert sum(isinstance(result, Fenced) for result in results) == 7


# ---- release --------------------------------------------------------------------------------------------------


async def test_a_released_session_rests_until_there_is_news(store: Store) -> None:
    await store.file([asked()])
    await store.release(advanced(await claimed(store)), None)
    assert await store.claim("b", 10, LEASE) == []
    assert await store.file([asked("t2")]) == {KEY}
    head = await claimed(store, "b")
    assert (head.epoch, head.version, head.taken) == (2, 1, 1)


async def test_news_that_came_meanwhile_is_not_lost(store: Store) -> None:
    """Filed after the last look at the inbox and before the release: nobody else would wake the session."""
    await store.file([asked()])
    head = advanced(await claimed(store))
    await store.file([asked("t2")])
    await store.release(head, rfc3339(utcnow() + timedelta(hours=1)))
    again = await claimed(store, "b")
    assert [new.filed.input_id for new in await store.unread(KEY, again.position)][-1] == "turn:t2"


async def test_filing_does_not_shorten_a_lease(store: Store) -> None:
    await store.file([asked()])
    await claimed(store)
    await store.file([asked("t2")])
    assert await store.claim("b", 10, LEASE) == []


async def test_a_released_session_is_due_when_it_said(store: Store) -> None:
    await store.file([asked()])
    head = advanced(await claimed(store))
    await store.release(head, rfc3339(utcnow() + timedelta(hours=1)))
    assert await store.claim("b", 10, LEASE) == []
    await store.file([asked(key=OTHER)])
    other = replace(await claimed(store), taken=1, position=1)
    await store.release(other, rfc3339(utcnow() - timedelta(seconds=1)))
    assert (await claimed(store, "b")).key == OTHER


async def test_files_and_releases_race_and_no_turn_stays_behind(store: Store) -> None:
    """One owner takes in and releases as fast as it can while forty inputs are filed."""
    taken = list[str]()

    async def filing() -> None:
        for n in range(40):
            await store.file([asked(f"t{n}")])

    async def driving() -> None:
        while len(taken) < 40:
            for head in await store.claim("a", 1, LEASE):
                unread = await store.unread(KEY, head.position)
                taken.extend(new.filed.input_id for new in unread)
                position = unread[-1].position if unread else head.position
                count = head.taken + len(unread)
                await store.release(replace(head, position=position, taken=count), None)

    async with asyncio.timeout(30):
        await asyncio.gather(filing(), driving())
    assert taken == [f"turn:t{n}" for n in range(40)]


async def test_sessions_written_at_the_same_time_are_each_judged_by_their_own_epoch(
    store: Store,
) -> None:
    keys = [(TENANT, f"many-{number:03}") for number in range(300)]
    await store.file([asked("t1", key) for key in keys])
    heads = await store.claim("a", 300, LEASE)
    stale = {head.key for head in heads[::7]}
    given = [replace(head, epoch=head.epoch - 1) if head.key in stale else head for head in heads]

    results = await asyncio.gather(*(store.write(head) for head in given), return_exceptions=True)

    for head, result in zip(given, results, strict=True):
        if head.key in stale:
            assert isinstance(result, Fenced)
        else:
            assert isinstance(result, Head)
            assert (result.key, result.version) == (head.key, head.version + 1)


async def test_sessions_read_at_the_same_time_get_their_own_inputs(store: Store) -> None:
    keys = [(TENANT, f"many-{number:03}") for number in range(50)]
    await store.file([asked(f"t{n}", key) for key in keys for n in range(int(key[1][-1]))])

    unread = await asyncio.gather(*(store.unread(key, 0) for key in keys))

    for key, found in zip(keys, unread, strict=True):
        assert [new.filed.input_id for new in found] == [
            f"turn:t{n}" for n in range(int(key[1][-1]))
        ]
