"""Sessions at rest, driven: nothing in memory, nothing left at the provider, and nothing asked of it in vain."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from services.agent_worker.ports import ProviderFailure
from services.agent_worker.session.patience import LATEST_AGAIN, SOONEST_AGAIN, try_again_at
from services.agent_worker.session.perform import TRIES
from shared.moment import parse
from shared.session.state import Retired, initial
from tests.builders import BEGINNING, at, turn
from tests.unit.agent_worker.outside import RESTING, Outside
from tests.unit.agent_worker.test_shell import KEY, given, settled, types
from tests.unit.agent_worker.virtual_time import virtual

pytestmark = pytest.mark.unit


def away(tries: int) -> list[Exception]:
    return [ProviderFailure("provider_unreachable", "no answer") for _ in range(tries)]


@virtual
async def test_a_session_at_rest_is_a_row_and_nothing_else() -> None:
    outside, worker = given(outside=Outside(RESTING))
    outside.ask(turn())
    await outside.said("turn.completed")
    await outside.until(lambda: outside.store.rows[KEY].owner is None, "the lease given back")
    row = outside.store.rows[KEY]
    assert row.wake_at == pytest.approx(BEGINNING.timestamp() + 15, abs=2.0)
    watched = worker.effects.done.count("watch")
    await outside.said("session.idled", count=2)
    assert worker.effects.done.count("watch") == watched, "to be idle asks nothing of the provider"
    await settled(outside)
    assert types(outside)[-2:] == ["session.archived", "session.status_terminated"]
    assert worker.effects.done.count("close") == 1
    assert outside.store.rows[KEY].wake_at is None


@virtual
async def test_a_close_that_fails_waits_longer_and_longer_and_holds_nothing() -> None:
    outside, worker = given(outside=Outside(RESTING))
    outside.ask(turn())
    await outside.said("turn.completed")
    worker.effects.fails["close"] = away(3 * TRIES)
    await outside.said("session.archived")
    await outside.until(lambda: worker.effects.done.count("close") >= TRIES, "tries")
    await outside.until(lambda: outside.store.rows[KEY].owner is None, "the lease given back")
    wake = outside.store.rows[KEY].wake_at
    assert wake is not None
    assert wake - outside.clock().timestamp() > SOONEST_AGAIN / 2
    await settled(outside)
    (session,) = outside.provider.sessions.values()
    assert session.closed
    assert worker.effects.done.count("close") <= 3 * TRIES + 1


@virtual
async def test_a_turn_does_not_wait_for_the_close_of_what_it_leaves() -> None:
    outside, worker = given(outside=Outside(RESTING))
    outside.ask(turn())
    await outside.said("turn.completed")
    worker.effects.fails["close"] = away(TRIES)
    await outside.said("session.archived")
    outside.ask(turn("t2", "and on", 60))
    asked = outside.clock()
    await outside.said("turn.completed", count=2)
    assert (outside.clock() - asked).total_seconds() < 5.0
    await settled(outside)
    assert [session.closed for session in outside.provider.sessions.values()] == [True, True]


@virtual
async def test_thirty_sessions_whose_provider_is_away_are_all_closed_later_and_none_twice() -> None:
    outside, worker = given(outside=Outside(RESTING))
    worker.effects.fails["close"] = away(40)
    for n in range(30):
        asked = turn(f"t{n}")
        outside.ask(replace(asked, request=replace(asked.request, session_id=f"s{n}")))

    def closed() -> int:
        return sum(session.closed for session in outside.provider.sessions.values())

    await outside.until(lambda: closed() == 30, "thirty ends")
    await settled(outside)
    assert len(outside.provider.sessions) == 30
    assert worker.effects.done.count("close") == 30 + 40


@pytest.mark.parametrize(
    ("waited", "soonest", "latest"),
    [(0, SOONEST_AGAIN, SOONEST_AGAIN), (200, 200, 200), (9_999, LATEST_AGAIN, LATEST_AGAIN)],
)
def test_what_was_put_off_is_tried_the_later_the_longer_it_waits(
    waited: float, soonest: float, latest: float
) -> None:
    state = replace(initial("acme", "s1"), retired=Retired(reason="idle", at=at(0)))
    first = parse(try_again_at(state, at(waited), 0.0)) - parse(at(waited))
    last = parse(try_again_at(state, at(waited), 1.0)) - parse(at(waited))
    assert first.total_seconds() == soonest / 2
    assert last.total_seconds() == latest * 1.5


def test_a_clock_that_was_set_back_makes_nobody_wait_for_it() -> None:
    back = replace(initial("acme", "s1"), retired=Retired(reason="idle", at=at(1e8)))
    again = parse(try_again_at(back, at(0), 0.5)) - parse(at(0))
    assert again.total_seconds() == SOONEST_AGAIN


@virtual
async def test_a_turn_is_taken_up_though_all_places_for_ending_are_taken() -> None:
    outside, worker = given(outside=Outside(RESTING))
    outside.ask(turn())
    await outside.said("turn.completed")
    places = worker.needs.ending
    while places.take():
        pass
    await outside.said("session.idled", count=1)
    await outside.until(lambda: outside.clock().timestamp() > BEGINNING.timestamp() + 45, "a due")
    assert "session.archived" not in types(outside)
    outside.ask(turn("t2", "and on", 60))
    await outside.said("turn.completed", count=2)
    places.give_back()
    await settled(outside)
    (session,) = outside.provider.sessions.values()
    assert session.closed
