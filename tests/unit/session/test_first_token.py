"""When the first token of a turn came: its first delta, which is recorded nowhere and rides on a `turn.*` event."""

from __future__ import annotations

import msgspec
import pytest

from shared.session import decide, fold
from shared.session.events import Turn
from shared.session.inputs import Heard, Input
from tests.builders import Wire, at, bound, elapsed, failed, seen, turn
from tests.unit.session.specification import history

pytestmark = pytest.mark.unit
RUNNING = (turn(), bound(second=1))


def ended(*said: object, heard: Heard | None, before: tuple[Input, ...] = RUNNING) -> Turn:
    """The turn as its last event says it stands."""
    state = fold(history(*before))
    decision = decide(state, seen(*said), heard=heard)  # type: ignore[arg-type]
    assert fold(decision.events, state) == decision.state, "decide and fold differ"
    return msgspec.json.decode(decision.events[-2].data, type=Turn)


def test_the_first_delta_is_the_first_token_and_not_the_finished_message() -> None:
    wire = Wire(second=10)
    said = (wire.prompt(), wire.message("a"), wire.idle())
    told = ended(*said, heard=Heard(turn_id="t1", first_token_at=at(5)))
    assert (told.first_token_at, told.first_output_at, told.ended_at) == (at(5), at(12), at(13))


def test_a_thought_that_was_finished_before_any_token_is_an_output_and_no_token() -> None:
    wire = Wire(second=10)
    said = (wire.prompt(), wire.event("agent.thinking"), wire.message("a"), wire.idle())
    told = ended(*said, heard=Heard(turn_id="t1", first_token_at=at(12.5)))
    assert (told.first_token_at, told.first_output_at) == (at(12.5), at(12))


def test_without_a_delta_the_first_finished_output_stands_for_both() -> None:
    wire = Wire(second=10)
    said = (wire.prompt(), wire.message("a"), wire.idle())
    for heard in (None, Heard(turn_id="another", first_token_at=at(5))):
        told = ended(*said, heard=heard)
        assert (told.first_token_at, told.first_output_at) == (at(12), at(12))


def test_a_time_that_was_told_is_not_told_anew() -> None:
    """A driver after a crash hears the deltas of a later attempt."""
    state = fold(history(*RUNNING))
    first = decide(state, failed(second=6), heard=Heard(turn_id="t1", first_token_at=at(5)))
    (retrying,) = first.events
    assert msgspec.json.decode(retrying.data, type=Turn).first_token_at == at(5)
    again = decide(first.state, elapsed(60)).state
    wire = Wire(second=70)
    last = decide(
        again,
        seen(wire.prompt(), wire.message("a"), wire.idle()),
        heard=Heard(turn_id="t1", first_token_at=at(71)),
    )
    assert msgspec.json.decode(last.events[-2].data, type=Turn).first_token_at == at(5)


def test_a_token_is_never_outside_of_its_turn() -> None:
    wire = Wire(second=10)
    said = (wire.prompt(), wire.message("a"), wire.idle())
    for second, kept in ((0.0, at(1)), (99.0, at(13))):
        told = ended(*said, heard=Heard(turn_id="t1", first_token_at=at(second)))
        assert told.first_token_at == kept
