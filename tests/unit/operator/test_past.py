"""What a past keeps of turns beside the state."""

import pytest

from services.operator.past import past
from shared.session import fold
from tests.unit.operator.recordings import conversation
from tests.unit.session.histories import NAMED
from tests.unit.session.specification import history

pytestmark = pytest.mark.unit


def test_turns_with_what_was_asked_called_answered_and_paid() -> None:
    first, second = past(conversation()).turns()
    assert (first.turn_id, first.content, first.turn.reply) == ("t1", "hello", "well")
    assert (first.agent, first.model, first.turn.cost_usd) == ("agent_1", "model-1", 0.03)
    assert first.tools == ()
    [call] = second.tools
    assert (call.kind, call.name, call.input) == ("builtin", "bash", '{"command":"ls"}')
    assert call.answer == {"result": "allow"}
    assert second.turn.status == "completed"
    assert second.turn.cost_usd == pytest.approx(0.02)


def test_a_failed_call_is_one() -> None:
    [call] = past(conversation(answer="deny")).turns()[1].tools
    assert call.is_error
    assert call.answer == {"result": "deny"}


@pytest.mark.parametrize("name", sorted(NAMED))
def test_at_every_event_the_state_is_the_cores_and_the_open_turn_is_its(name: str) -> None:
    events = list(history(*NAMED[name]))
    for count in range(1, len(events) + 1):
        told = past(events[:count])
        assert told.state == fold(events[:count])
        turns = {one.turn_id: one.turn for one in told.turns()}
        if told.state.turn is not None:
            assert turns[told.state.turn.turn_id] == told.state.turn


def test_a_turn_that_was_refused_unheard_has_no_content_and_is_none() -> None:
    assert [one.turn_id for one in past(history(*NAMED["busy"])).turns()] == ["t1"]
