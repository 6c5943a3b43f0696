"""A turn starts when its session's driver takes it up, not when it was asked for: the time between is its queue."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from shared.session import decide
from shared.session.events import TurnStarted
from shared.session.state import initial
from tests.builders import SESSION, TENANT, Wire, at, bound, seen, turn

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("taken_at", "started_at"),
    [(at(60), at(60)), (at(40), at(50)), ("", at(50))],
    ids=["waited", "the publisher's clock is ahead", "nobody says"],
)
def test_a_turn_on_an_idle_session_starts_when_it_is_taken_up(
    taken_at: str, started_at: str
) -> None:
    state = initial(TENANT, SESSION)
    for input in (turn(), bound(), seen(*Wire().reply())):
        state = decide(state, input).state
    asked = replace(turn("t2", second=50), taken_at=taken_at)
    accepted, started = decide(state, asked).events
    assert (accepted.type, accepted.at) == ("turn.accepted", at(50))
    assert (started.type, started.at) == ("turn.started", started_at)
    data = msgspec.json.decode(started.data, type=TurnStarted)
    assert (data.submitted_at, data.started_at) == (at(50), started_at)
