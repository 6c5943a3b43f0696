"""A small year: users, workers that are killed, rest and caps; and that its judge sees what breaks a promise."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec import Raw
from msgspec.structs import replace

from shared.session.caps import Spender
from shared.session.events import Event
from tests.builders import BEGINNING, at
from tests.fakes.caps import Reservation
from tests.unit.agent_worker.virtual_time import virtual
from tests.year.__main__ import main
from tests.year.log import YearLog
from tests.year.play import Options, Year, play
from tests.year.provider import PayingConversation

pytestmark = pytest.mark.unit

SMALL = Options(users=20, days=60, workers=8, seed=1, visits=30.0, kill_after=150)
TINY = Options(users=3, days=8, workers=2, seed=4, visits=200.0, kill_after=0)


def test_a_year_of_killed_workers_leaks_nothing_and_its_money_agrees() -> None:
    year = play(SMALL)
    judged = year.judged()
    assert judged.wrong == [], "\n".join(judged.wrong)
    said = year.world.log.count
    assert year.killed > 20
    assert said["turn.refused"], "no cap was reached"
    assert said["session.rotated"], "no session went on after a rest"
    assert said["turn.requires_action"], "nothing asked a user"
    assert any(one.erased for one in year.world.paying.paid), "no job came to its end"
    assert all(one.closed for one in year.world.paying.paid)


def test_sessions_that_do_not_rest_stay_alive() -> None:
    year = play(Options(users=3, days=8, workers=2, visits=200.0, kill_after=0, rests=False))
    alive = [one for one in year.world.paying.paid if not one.closed]
    assert alive
    assert year.judged().figures["alive at the end"] == f"{len(alive)}, of which leaked 0"


def test_the_same_seed_is_the_same_year() -> None:
    assert play(TINY).judged() == play(TINY).judged()


def _first(year: Year) -> PayingConversation:
    return year.world.paying.paid[0]


def _book_a_cent(year: Year) -> None:
    year.world.log.book.by_provider[_first(year).id] += 10_000


def _leave_one_behind(year: Year) -> None:
    left = PayingConversation("sesn_left", _first(year).mark, year.world.clock)
    year.world.paying.sessions["sesn_left"] = left


def _send_twice(year: Year) -> None:
    _first(year).messages.append(_first(year).messages[0])


def _send_nothing(year: Year) -> None:
    del _first(year).messages[0]


def _lose_an_event(year: Year) -> None:
    year.world.log.recorded[_first(year).id] -= 3


def _overspend(year: Year) -> None:
    spent = year.world.log.book.by_month
    place = next(place for place in spent if place[0][0] == "free")
    spent[place] += 10_000_000
    year.world.store.books.spent["user", place[1], place[2]] += 10_000_000


def _misbook(year: Year) -> None:
    account = next(iter(year.world.store.books.spent))
    year.world.store.books.spent[account] += 1


def _reserve(year: Year) -> None:
    books = year.world.store.books
    key = next(iter(year.world.store.rows))
    spender = Spender(tenant_id=key[0], user_id="u1", session_id=key[1])
    books.reservations[key] = Reservation("u1t0", spender, 1)


def _end_twice(year: Year) -> None:
    next(iter(year.world.log.ends.values())).append("turn.completed")


@pytest.mark.parametrize(
    ("breach", "words"),
    [
        (_book_a_cent, "micro-dollars in the ledger"),
        (_leave_one_behind, "alive, and nobody's"),
        (_send_twice, "sent 2 times, not 1"),
        (_send_nothing, "sent 0 times, not 1"),
        (_lose_an_event, "events"),
        (_overspend, "beyond the cap"),
        (_misbook, "the account says"),
        (_reserve, "left reserved"),
        (_end_twice, "ends"),
    ],
)
def test_a_broken_promise_is_told(breach: Callable[[Year], None], words: str) -> None:
    year = play(TINY)
    assert year.judged().wrong == []
    breach(year)
    (wrong, *_) = year.judged().wrong
    assert words in wrong


def _event(seq: int) -> Event:
    return Event(
        tenant_id="acme",
        session_id="s1",
        seq=seq,
        event_id=f"s1:{seq}",
        type="session.idled",
        turn_id=None,
        at=at(seq),
        user_id="u1",
        data=Raw(b"{}"),
    )


@virtual
async def test_a_gap_and_a_second_body_are_told() -> None:
    log = YearLog(lambda: BEGINNING)
    first, second, third = (_event(seq) for seq in (1, 2, 3))
    await log.say([first, second, second], lambda _: "")
    assert (log.wrong, log.repeats) == ([], 1)
    await log.say([replace(second, at=at(9)), replace(third, seq=4)], lambda _: "")
    assert log.wrong == ["s1: two bodies for seq 2", "s1: seq 4 after 2"]


def test_a_wrong_argument_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--users", "0"])
    assert stopped.value.code == 2
    assert "--users: at least 1" in capsys.readouterr().err
