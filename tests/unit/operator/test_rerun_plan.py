"""What a rerun sends: names that follow from the run, and answers as they were given."""

import json
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from services.operator.past import ToolCall, past
from services.operator.reruns import plan as rerun_plan
from services.operator.reruns.plan import MAX_SESSION_ID, Plan, plan, shadow_of
from shared.bus.envelope import Envelope
from shared.session.admission import admit
from shared.session.inputs import Request
from shared.session.resources import FileResource, MemoryResource
from tests.builders import BEGINNING, Wire, bound, opening, seen, turn
from tests.unit.operator.recordings import conversation
from tests.unit.session.specification import history

pytestmark = pytest.mark.unit


@pytest.fixture
def wanted() -> Plan:
    return plan("r1", past(conversation()))


def admitted(record: tuple[Envelope, bytes]) -> Request:
    """The request as intake reads it; AssertionError when the envelope says something else."""
    envelope, value = record
    request = admit(envelope.type, value, envelope.time)
    assert request.session_id == envelope.subject
    return request


def test_every_record_is_one_that_intake_takes(wanted: Plan) -> None:
    opened: Any = admitted(rerun_plan.opening(wanted, "r1", "agent_2@3", 0.25, BEGINNING))
    assert (opened.tenant_id, opened.session_id) == ("acme", "rerun:r1:s1")
    assert (opened.agent, opened.budget_usd, opened.mode) == ("agent_2@3", 0.25, "interactive")
    assert opened.metadata == {"turnstile_rerun": "r1", "turnstile_rerun_of": "s1"}
    sent: Any = admitted(rerun_plan.sending(wanted, wanted.turns[0], "agent_2", BEGINNING))
    assert (sent.turn_id, sent.content, sent.user_id) == ("t1", "hello", "u1")
    admitted(rerun_plan.closing(wanted, BEGINNING))


def test_a_rerun_has_what_its_session_had_and_writes_no_memory() -> None:
    file = FileResource(file_id="file_1", mount_path="/data/a")
    store = MemoryResource(memory_store_id="memstore_1", instructions="read it")
    events = history(opening(resources=[file, store]), turn(), bound(), seen(*Wire().reply()))
    wanted = plan("r1", past(list(events)))
    opened: Any = admitted(rerun_plan.opening(wanted, "r1", "a", None, BEGINNING))
    assert opened.resources == [file, replace(store, access="read_only")]


def test_the_same_run_asks_for_the_same_under_the_same_names(wanted: Plan) -> None:
    later = BEGINNING.replace(year=2027)
    made = [
        [
            rerun_plan.opening(wanted, "r1", "a", 1.0, at)[0],
            rerun_plan.sending(wanted, wanted.turns[1], "a", at)[0],
            rerun_plan.closing(wanted, at)[0],
        ]
        for at in (BEGINNING, later)
    ]
    for first, again in zip(*made, strict=True):
        assert (first.id, first.subject, first.type) == (again.id, again.subject, again.type)


def test_shadow_ids_are_ids_however_long_the_recorded_one_is() -> None:
    long = [shadow_of("r1", letter * MAX_SESSION_ID) for letter in "ab"]
    assert long[0] != long[1]
    assert all(len(name) <= MAX_SESSION_ID for name in long)


@pytest.mark.parametrize(
    ("command", "verdict"), [("ls", "allow"), ("rm -rf /", "deny")], ids=["known", "unknown"]
)
def test_a_call_is_allowed_when_it_was_and_denied_when_it_is_another(
    wanted: Plan, command: str, verdict: str
) -> None:
    action = {
        "tool_use_id": "sevt_9",
        "kind": "confirmation",
        "name": "bash",
        "input": {"command": command},
    }
    answer: Any = admitted(rerun_plan.answering(wanted, wanted.turns[1], action, BEGINNING))
    assert (answer.tool_use_id, answer.result) == ("sevt_9", verdict)
    assert (answer.deny_message is None) == (verdict == "allow")


def test_what_was_denied_is_denied_again() -> None:
    wanted = plan("r1", past(conversation(answer="deny")))
    action = {
        "tool_use_id": "x",
        "kind": "confirmation",
        "name": "bash",
        "input": {"command": "ls"},
    }
    answer: Any = admitted(rerun_plan.answering(wanted, wanted.turns[1], action, BEGINNING))
    assert answer.result == "deny"


def test_a_custom_tool_that_was_not_called_gets_an_error(wanted: Plan) -> None:
    action = {"tool_use_id": "x", "kind": "custom_tool", "name": "weather", "input": {}}
    _, value = rerun_plan.answering(wanted, wanted.turns[0], action, BEGINNING)
    assert json.loads(value)["is_error"] is True


def test_a_custom_tool_is_answered_as_it_was() -> None:
    told = msgspec.structs.replace(
        past(conversation()).turns()[0],
        tools=(
            ToolCall(
                id="old",
                kind="custom",
                name="weather",
                input='{"a":1,"b":2}',
                answer={"content": [{"type": "text", "text": "rain"}]},
            ),
        ),
    )
    action = {
        "tool_use_id": "new",
        "kind": "custom_tool",
        "name": "weather",
        "input": {"b": 2, "a": 1},
    }
    wanted = plan("r1", past(conversation()))
    answer: Any = admitted(rerun_plan.answering(wanted, told, action, BEGINNING))
    assert (answer.custom_tool_use_id, answer.is_error) == ("new", False)
    assert answer.content == [{"type": "text", "text": "rain"}]
