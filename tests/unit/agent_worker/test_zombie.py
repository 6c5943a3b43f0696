"""A worker stands still for longer than its lease, another one takes over and finishes, then the first goes on.

It writes nothing (the row's epoch has moved), says nothing new, and asks the provider for nothing: its lease has
run out by its own clock. What no check can hold back is a call that was on its way when it stopped, because the
provider knows no epochs: a message that lands a second time, a late interrupt, a session that nobody will use.
"""

from __future__ import annotations

import pytest

from tests.unit.agent_worker.effects import Halt, Tempo, When
from tests.unit.agent_worker.outcome import outcome, the_log
from tests.unit.agent_worker.plays import PLAYS
from tests.unit.agent_worker.runs import quiet, zombied
from tests.unit.agent_worker.worker import EVEN, SLOW_STORE

pytestmark = pytest.mark.unit

# Calls that still land when they were on their way already.
LATE = ("open", "send", "interrupt")
ASKING = {*LATE, "answer", "close"}
POINTS = [
    (play, tempo, k, name, when)
    for play in PLAYS
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
def test_it_changes_nothing(play: str, tempo: Tempo, k: int, when: When) -> None:
    found = zombied(play, Halt(k, when), tempo)
    assert outcome(found.outside) == quiet(play, tempo)[0]
    assert not ASKING & set(found.then), f"it asked the provider: {found.then}"


@pytest.mark.parametrize(("play", "tempo", "k", "when"), cases(late=True))
def test_only_a_call_on_its_way_lands(play: str, tempo: Tempo, k: int, when: When) -> None:
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
