"""What deltas tell of the open turn."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from services.agent_worker.session.hearing import Hearing
from shared.session import SessionState, fold
from shared.session.events import Turn
from tests.builders import Wire, at, bound, seen, turn
from tests.unit.agent_worker.outcome import the_log
from tests.unit.agent_worker.test_shell import given, settled
from tests.unit.agent_worker.virtual_time import virtual
from tests.unit.session.specification import history

pytestmark = pytest.mark.unit
START = b'{"type":"event_start","event":{"type":"agent.message","id":"m"}}'
DELTA = b'{"type":"event_delta","event_id":"m","delta":{"content":{"type":"text","text":"a"}}}'


class Clock:
    second = 0.0

    def now(self) -> str:
        self.second += 1
        return at(self.second)


def state(*said: object) -> SessionState:
    heard = (seen(*said),) if said else ()  # type: ignore[arg-type]
    return fold(history(turn(), bound(), *heard))


def test_the_first_delta_counts_and_no_start_and_no_later_delta() -> None:
    hearing, stands = Hearing(Clock().now), state()
    hearing.hear(stands, START)
    assert hearing.of(stands) is None
    hearing.hear(stands, DELTA)
    hearing.hear(stands, DELTA)
    heard = hearing.of(stands)
    assert heard is not None
    assert (heard.turn_id, heard.first_token_at) == ("t1", at(1))


def test_deltas_of_no_turn_and_behind_a_finished_message_are_not_heard() -> None:
    hearing, wire = Hearing(Clock().now), Wire()
    finished = state(wire.prompt(), wire.message("a"))
    hearing.hear(finished, DELTA)
    hearing.hear(replace(finished, turn=None, progress=None), DELTA)
    assert hearing.of(finished) is None


def test_what_the_agent_says_to_somebody_else_is_not_of_the_turn() -> None:
    hearing, stands = Hearing(Clock().now), state()
    hearing.hear(stands, DELTA)
    assert stands.progress is not None
    stray = replace(stands, progress=replace(stands.progress, stray=True))
    assert hearing.of(stray) is None
    assert hearing.of(stands) is None, "nor afterwards"


@virtual
async def test_a_driven_turn_ends_with_the_time_of_its_first_delta() -> None:
    outside, _ = given()
    outside.ask(turn())
    await settled(outside)
    (end,) = (event for event in the_log(outside) if event.type == "turn.completed")
    told = msgspec.json.decode(end.data, type=Turn)
    assert told.first_token_at is not None
    assert told.first_output_at is not None
