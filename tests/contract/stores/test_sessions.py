"""What every store of sessions does, whatever database it is kept in."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import pairwise

import pytest

from shared.clock import utcnow
from shared.errors import Rejected
from tests.contract.stores.conftest import Place, opened
from turnstile.stores import Conflict, Event, SessionStore

pytestmark = [pytest.mark.contract, pytest.mark.timeout(240)]
HOUR = timedelta(hours=1)
WRITERS = 64


def numbered(first: int, last: int) -> list[dict[str, int]]:
    return [{"n": n} for n in range(first, last + 1)]


async def test_what_was_appended_is_loaded(store: SessionStore, own: str) -> None:
    odd = {
        "text": 'a "quoted" line\n\u0000 ü 🦉',
        "deep": {"list": [1, 2.5, None, True]},
        "big": 2**53,
    }
    assert await store.load(own) is None
    assert await store.append(own, [odd], expected_version=0, state=odd, user=f"{own}u") == 1
    assert await store.append(own, [{}, odd], expected_version=1) == 3
    found = await store.load(own)
    assert found
    assert (found.version, found.state, found.user, found.lost) == (3, odd, f"{own}u", "")
    page = await store.history(own)
    assert page.events == (Event(1, odd), Event(2, {}), Event(3, odd))
    assert (page.damaged, page.next_after) == ((), None)


async def test_an_append_at_another_version_changes_nothing(store: SessionStore, own: str) -> None:
    for version in (1, 7):
        with pytest.raises(Conflict) as none:
            await store.append(own, [{}], expected_version=version)
        assert none.value.found == 0
    assert await store.load(own) is None
    await store.append(own, numbered(1, 3), expected_version=0, state={"n": 3})
    for version in (0, 2, 4):
        with pytest.raises(Conflict) as raised:
            await store.append(own, [{"n": 0}], expected_version=version, state={})
        assert raised.value.found == 3
    found = await store.load(own)
    assert found
    assert (found.version, found.state) == (3, {"n": 3})
    assert [event.event["n"] for event in (await store.history(own)).events] == [1, 2, 3]


async def test_an_append_that_is_repeated_under_its_id_lands_once(
    store: SessionStore, own: str
) -> None:
    for _ in range(2):
        assert await store.append(own, numbered(1, 2), expected_version=0, append_id="one") == 2
    await store.append(own, [{"n": 3}], expected_version=2)
    assert await store.append(own, numbered(1, 2), expected_version=0, append_id="one") == 2
    with pytest.raises(Conflict):
        await store.append(own, numbered(1, 2), expected_version=0, append_id="two")
    assert len((await store.history(own)).events) == 3


async def test_of_64_writers_at_once_each_lands_once_and_in_one_order(
    place: Place, own: str
) -> None:
    async with opened(place.url) as here, opened(place.url) as there:

        async def write(n: int) -> tuple[int, int]:
            store = (here, there)[n % 2]
            while True:
                found = await store.load(own)
                version, seen = (found.version, found.state["sum"]) if found else (0, 0)
                state = {"sum": seen + n}
                try:
                    last = await store.append(
                        own, [{"n": n}, {"n": n}], expected_version=version, state=state
                    )
                except Conflict:
                    continue
                return n, last

        landed = dict(await asyncio.gather(*map(write, range(WRITERS))))
        events = (await here.history(own)).events
        found = await there.load(own)
    assert found
    assert found.state == {"sum": sum(range(WRITERS))}
    assert [event.seq for event in events] == list(range(1, 2 * WRITERS + 1))
    assert {events[last - 1].event["n"]: last for last in landed.values()} == landed
    assert all(a.event == b.event for a, b in list(pairwise(events))[::2])


async def test_history_comes_in_pages_without_gap_or_repeat(store: SessionStore, own: str) -> None:
    await store.append(own, numbered(1, 25), expected_version=0)
    seqs: list[int] = []
    after: int | None = 0
    while after is not None:
        page = await store.history(own, after=after, limit=10)
        assert len(page.events) <= 10
        seqs += [event.seq for event in page.events]
        after = page.next_after
    assert seqs == list(range(1, 26))
    assert (await store.history(own, after=25)).events == ()


async def test_profiles_have_versions(store: SessionStore, own: str) -> None:
    assert await store.profile(own) is None
    assert await store.put_profile(own, {"likes": "tea"}, expected_version=0) == 1
    assert await store.put_profile(own, {"likes": "cocoa"}, expected_version=1) == 2
    for version in (0, 1, 3):
        with pytest.raises(Conflict):
            await store.put_profile(own, {}, expected_version=version)
    found = await store.profile(own)
    assert found
    assert (found.version, found.profile) == (2, {"likes": "cocoa"})
    with pytest.raises(Conflict):
        await store.put_profile(own, None, expected_version=1)
    assert await store.put_profile(own, None, expected_version=2) == 0
    assert await store.profile(own) is None


async def test_a_deleted_session_is_gone_with_its_history(store: SessionStore, own: str) -> None:
    await store.append(own, numbered(1, 3), expected_version=0, state={"n": 3}, user=own)
    assert await store.delete(own)
    assert not await store.delete(own)
    assert await store.load(own) is None
    assert (await store.history(own)).events == ()
    assert (await store.sessions(user=own)).sessions == ()
    await store.append(own, [{"n": 9}], expected_version=0)
    assert (await store.history(own)).events == (Event(1, {"n": 9}),)
    again = await store.load(own)
    assert again
    assert again.state == {}


async def test_an_expired_session_is_not_there_and_can_be_removed(
    store: SessionStore, own: str
) -> None:
    past, ahead = utcnow() - HOUR, utcnow() + HOUR
    for name, at in (("a", past), ("b", ahead), ("c", past)):
        await store.append(own + name, [{}], expected_version=0, user=own, expires_at=at)
    assert await store.load(own + "a") is None
    assert (await store.history(own + "a")).events == ()
    assert [one.session for one in (await store.sessions(user=own)).sessions] == [own + "b"]
    # Its id is free again.
    assert await store.append(own + "c", [{}], expected_version=0, user=own, expires_at=ahead) == 1
    while await store.remove_expired():
        pass
    with pytest.raises(Conflict) as gone:
        await store.append(own + "a", [{}], expected_version=1)
    assert gone.value.found == 0
    loaded = await store.load(own + "b")
    assert loaded
    assert loaded.expires_at
    assert abs(loaded.expires_at - ahead) < timedelta(milliseconds=2)
    await store.append(own + "b", [{}], expected_version=1)
    kept = await store.load(own + "b")
    assert kept
    assert kept.expires_at is None


async def test_sessions_are_listed_by_user_and_prefix_in_pages(
    store: SessionStore, own: str
) -> None:
    names = [f"{own}{kind}{n}" for kind in "-._:aB" for n in range(4)]
    for n, name in enumerate(names):
        await store.append(name, [{}], expected_version=0, user=f"{own}.{n % 2}")
    page = await store.sessions(prefix=own)
    assert [one.session for one in page.sessions] == sorted(names)
    assert page.next_after is None
    listed: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await store.sessions(prefix=own, user=f"{own}.1", after=after, limit=5)
        listed += [one.session for one in page.sessions]
        after = page.next_after
    assert listed == sorted(name for n, name in enumerate(names) if n % 2)
    assert len((await store.sessions(prefix=f"{own}_")).sessions) == 4


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("session", {"session": "no spaces"}),
        ("session", {"session": ""}),
        ("events", {"events": []}),
        ("events", {"events": [{"text": "x" * 5_000_000}]}),
        ("events", {"events": [["a list"]]}),
        ("events", {"events": [{"thing": object()}]}),
        ("state", {"state": "a text"}),
        ("expected_version", {"expected_version": -1}),
        ("expires_at", {"expires_at": utcnow().replace(tzinfo=None)}),
    ],
)
async def test_what_cannot_be_kept_is_refused_by_name(
    store: SessionStore, own: str, field: str, arguments: dict[str, object]
) -> None:
    given = {"session": own, "events": [{}], "expected_version": 0, **arguments}
    with pytest.raises(Rejected) as raised:
        await store.append(given.pop("session"), given.pop("events"), **given)  # type: ignore[arg-type]
    assert raised.value.field == field
    assert await store.load(own) is None
