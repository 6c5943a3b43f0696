"""A record that can't be read is set aside with a reason, and its session goes on."""

from __future__ import annotations

import pytest

from tests.contract.stores.conftest import Place
from tests.contract.stores.damaging import break_event, break_profile, break_state
from turnstile.stores import Damaged, SessionStore

pytestmark = [pytest.mark.contract, pytest.mark.timeout(240)]


async def test_a_damaged_event_is_set_aside_once_and_the_others_are_read(
    place: Place, store: SessionStore, own: str
) -> None:
    await store.append(own, [{"n": n} for n in range(1, 6)], expected_version=0, state={"n": 5})
    await break_event(place, store, own, 3)
    for _ in range(2):
        page = await store.history(own)
        assert [event.seq for event in page.events] == [1, 2, 4, 5]
        assert page.damaged == (Damaged(3, "not_json"),)
    [aside] = await store.quarantined(own)
    assert (aside.seq, aside.reason) == (3, "not_json")
    assert aside.text
    await store.append(own, [{"n": 6}], expected_version=5)
    assert [event.seq for event in (await store.history(own)).events] == [1, 2, 4, 5, 6]
    await store.delete(own)
    assert list(await store.quarantined(own)) == []


async def test_a_damaged_state_is_set_aside_and_the_session_goes_on(
    place: Place, store: SessionStore, own: str
) -> None:
    await store.append(own, [{}, {}], expected_version=0, state={"n": 2}, user=f"{own}u")
    await break_state(place, store, own)
    for _ in range(2):
        found = await store.load(own)
        assert found
        assert (found.version, found.state, found.lost) == (2, {}, "not_json")
    assert [(aside.seq, bool(aside.text)) for aside in await store.quarantined(own)] == [(0, True)]
    await store.append(own, [{}], expected_version=2, state={"n": 3})
    mended = await store.load(own)
    assert mended
    assert (mended.version, mended.state, mended.user, mended.lost) == (3, {"n": 3}, f"{own}u", "")
    assert len((await store.history(own)).events) == 3


async def test_a_damaged_profile_counts_as_empty(
    place: Place, store: SessionStore, own: str
) -> None:
    await store.put_profile(own, {"likes": "tea"}, expected_version=0)
    await break_profile(place, store, own)
    found = await store.profile(own)
    assert found
    assert (found.version, found.profile) == (1, {})
    assert await store.put_profile(own, {"likes": "tea"}, expected_version=1) == 2
