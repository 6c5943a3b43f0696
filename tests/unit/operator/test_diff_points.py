"""What two pasts differ in."""

import msgspec
import pytest

from services.operator.past import past
from services.operator.replays.points import as_json, as_text, of_points, of_sessions
from tests.unit.operator.recordings import conversation
from tests.unit.session.histories import NAMED
from tests.unit.session.specification import history

pytestmark = pytest.mark.unit


def test_two_sessions_that_went_alike_do_not_differ() -> None:
    assert of_sessions(past(conversation()), past(conversation())) == []


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"reply": "badly"}, {(1, "reply")}),
        ({"tool": "ls -l"}, {(2, "tools")}),
        ({"answer": "deny"}, {(2, "failed_tools")}),
    ],
)
def test_each_change_is_found_where_it_is(
    change: dict[str, str], fields: set[tuple[int, str]]
) -> None:
    found = of_sessions(past(conversation()), past(conversation(**change)))
    assert {(one.turn, one.field) for one in found} == fields


def test_outcome_tokens_cost_and_missing_turns_count() -> None:
    found = of_sessions(past(conversation()), past(history(*NAMED["refused"])))
    assert {(1, "status"), (1, "usage"), (1, "cost_usd"), (2, "turn_id"), (None, "cost_usd")} <= {
        (one.turn, one.field) for one in found
    }


def test_two_points_of_one_session_show_what_came_between() -> None:
    events = conversation()
    early = next(event.seq for event in events if event.type == "turn.started")
    found = of_points(past(events[:early]), past(events))
    by_field = {(one.turn, one.field): (one.a, one.b) for one in found}
    assert by_field[(1, "status")] == ("running", "completed")
    assert by_field[(1, "reply")] == (None, "well")
    assert by_field[(2, "turn_id")] == (None, "t2")
    assert by_field[(None, "open_turn")] == ("t1", None)
    assert of_points(past(events[:early]), past(events[:early])) == []


def test_differences_read_well_and_as_json() -> None:
    several = past(conversation(reply="one\ntwo")), past(conversation(reply="one\n\x1b[2Jthree"))
    found = of_sessions(*several)
    assert as_text(found).splitlines() == [
        "turn 1", "  reply", "    @@ -1,2 +1,2 @@", "     one", "    -two", "    +\ufffd[2Jthree",
    ]  # fmt: skip
    single = of_sessions(past(conversation()), past(conversation(reply="no")))
    assert as_text(single) == f"turn 1\n  {'reply':<20} well → no"
    assert as_json(single[0]) == {"turn": 1, "field": "reply", "a": "well", "b": "no"}
    msgspec.json.encode([as_json(one) for one in found])
