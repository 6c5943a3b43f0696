"""A worker stands still for longer than its lease, another one takes over and finishes, then the first goes on.

It writes nothing (the row's epoch has moved), says nothing new, and asks the provider for nothing: its lease has
run out by its own clock. What no check can hold back is a call that was on its way when it stopped, because the
provider knows no epochs: a message that lands a second time, a late interrupt, a session that nobody will use.
"""

from __future__ import annotations

import pytest

from shared.session import provider
from tests.builders import turn
from tests.unit.agent_worker import virtual_time
from tests.unit.agent_worker.effects import Halt, Tempo, When
from tests.unit.agent_worker.outcome import outcome, the_log
from tests.unit.agent_worker.outside import Outside
from tests.unit.agent_worker.runs import quiet, zombied
from tests.unit.agent_worker.worker import EVEN, SLOW_STORE, Worker, know_tasks

pytestmark = pytest.mark.unit

# Calls that still land when they were on their way already.
LATE = ("open", "send", "interrupt")
ASKING = {*LATE, "answer", "close"}
FROZEN = ("plain", "confirm", "overloaded", "interrupt", "archive")
POINTS = [
    (play, tempo, k, name, when)
    for play in FROZEN
    for tempo in (EVEN, SLOW_STORE)
    for k, name in enumerate(quiet(play, tempo)[1], start=1)
    for when in ("before", "after")
]


def cases(*, late: bool) -> list[object]:
    """The points at which a call was on its way, or all others."""
    return [
        pytest.param(play, tempo, k, when, id=f"{play}-{tempo.name}-{k:02d}-{name}-{when}")
        for play, tempo, k, name, when in POINTS
        if ((name in LATE and when == "before") == late) and (tempo is SLOW_STORE or late)
    ]


@pytest.mark.parametrize(("play", "tempo", "k", "when"), cases(late=False))
def test_a_zombie_changes_nothing(play: str, tempo: Tempo, k: int, when: When) -> None:
    found = zombied(play, Halt(k, when), tempo)
    assert outcome(found.outside) == quiet(play, tempo)[0]
    assert not ASKING & set(found.then), f"it asked the provider: {found.then}"


@pytest.mark.parametrize(("play", "tempo", "k", "when"), cases(late=True))
def test_only_a_zombies_call_on_its_way_lands(play: str, tempo: Tempo, k: int, when: When) -> None:
    found = zombied(play, Halt(k, when), tempo)
    outside, call = found.outside, found.before[k - 1]
    log = the_log(outside)
    (row,) = outside.store.rows.values()
    assert row.head.state.last_seq == len(log)
    sessions = list(outside.provider.sessions.values())
    if call == "open":
        assert [bool(session.messages) for session in sessions] == [True, False]
    elif call == "send":
        # A further attempt looks before it sends, and a closed session takes nothing: then none is too many.
        assert set(outside.received) == set(outside.meant)
        assert len(outside.received) - len(outside.meant) in (0, 1)
    else:
        landed = [event.type for event in sessions[0].log].count("user.interrupt")
        assert (landed, outside.received) == (2, outside.meant)


def test_a_message_that_landed_twice_is_seen_as_nobodys() -> None:
    """It shows with the next turn: as events of no turn, and that turn goes its own way."""

    async def main() -> Outside:
        know_tasks()
        outside = Outside()
        worker = Worker(outside, "successor")
        worker.start()
        outside.ask(turn("t1", "one"))
        await outside.until(lambda: outside.settled, "the first turn")
        (session,) = outside.provider.sessions.values()
        session.say([{"type": "text", "text": "one"}])
        outside.ask(turn("t2", "two", 60))
        await outside.said("turn.completed", count=2)
        await outside.until(lambda: outside.settled, "the second turn")
        return outside

    outside = virtual_time.run(main())
    assert outside.received == ["one", "one", "two"], "the second turn was never sent"
    replies = [e for e in the_log(outside) if e.type == "agent.message" and e.turn_id == "t2"]
    assert [provider.text_of(event.data) for event in replies] == ["two"]
