"""An MCP server that takes no credential: the turn waits until it is connected, and is tried again then."""

from __future__ import annotations

import msgspec
import pytest

from shared.session import Input
from shared.session.commands import Open, Send
from shared.session.inputs import ProviderEvent
from shared.session.policy import Policy
from tests.builders import (
    Wire,
    archiving,
    bound,
    confirming,
    elapsed,
    failed,
    interrupting,
    opening,
    seen,
    turn,
)
from tests.unit.session.specification import Given, after

pytestmark = pytest.mark.unit

RUNNING: tuple[Input, ...] = (opening(vault_ids=["vlt_1"]), turn("t1"), bound())
ANSWER_WITHIN = 24 * 3600
AGAIN = Send(turn_id="t1", input_id="turn:t1", attempt=2, look=True)
UNREACHABLE = "mcp_connection_failed_error"


def refused(
    wire: Wire, *errors: ProviderEvent, reason: str = "retries_exhausted"
) -> tuple[ProviderEvent, ...]:
    """An attempt that the provider gives up because of a server."""
    return (wire.prompt(), wire.running(), *(errors or (wire.unconnected(),)), wire.idle(reason))


def paused(*more: Input, begun: tuple[Input, ...] = RUNNING) -> Given:
    return after(*begun, *more, seen(*refused(Wire())))


def action_of(session: Given, place: int = 0) -> str:
    return session.state.connection_pauses[place].tool_use_id


def connected(session: Given, second: float = 9) -> Given:
    return Given(session.when(confirming(action_of(session), second)).state)


def test_a_refused_credential_waits_for_somebody_and_names_the_server() -> None:
    wire = Wire()
    waits = after(*RUNNING).when(seen(*refused(wire)))
    assert [event.type for event in waits.events][-2:] == [
        "session.status_idle",
        "turn.requires_action",
    ]
    (action,) = waits.state.pending
    assert (action.kind, action.name, action.tool_use_id) == ("connection", "github", "sevt_3")
    assert msgspec.json.decode(action.input) == {"error": "mcp_authentication_failed_error"}
    assert (waits.state.status, waits.state.awaits_people) == ("requires_action", True)
    assert waits.state.due_at is not None, "it does not wait for ever"
    assert waits.decision.commands == (), "nothing is sent meanwhile"


def test_once_it_is_connected_the_same_turn_is_tried_again_and_its_message_looked_for_first() -> (
    None
):
    session = paused()
    made = session.when(confirming(action_of(session), 9))
    made.then("session.connection_made", "turn.started", commands=(AGAIN,))
    made.saying("session.connection_made", tool_use_id="sevt_3", server="github")
    made.saying("turn.started", attempts=2, provider_session_id="sesn_1")
    done = Given(made.state).when(seen(*Wire("again", 11).reply()))
    done.saying("turn.completed", reply="well", attempts=2)


def test_a_second_confirmation_says_that_nothing_waits() -> None:
    session = paused()
    late = connected(session).when(confirming(action_of(session), 10))
    late.saying("session.answer_refused", reason="unknown_action")
    assert late.state.turn is not None
    assert late.state.turn.status == "running"


def test_every_server_that_failed_is_waited_for() -> None:
    wire = Wire()
    errors = wire.unconnected("github"), wire.unconnected("notion"), wire.unconnected("github")
    session = after(*RUNNING, seen(*refused(wire, *errors)))
    assert [action.name for action in session.state.pending] == ["notion", "github"]
    one = session.when(confirming(action_of(session), 9))
    one.then("session.connection_made")
    both = Given(one.state).when(confirming(action_of(Given(one.state)), 10))
    both.then("session.connection_made", "turn.started", commands=(AGAIN,))


def test_an_agent_that_goes_on_without_the_server_keeps_nobody_waiting() -> None:
    wire = Wire()
    said = wire.prompt(), wire.running(), wire.unconnected(), *wire.reply()[2:]
    done = after(*RUNNING).when(seen(*said))
    assert "turn.requires_action" not in [event.type for event in done.events]
    done.saying("turn.completed", reply="well", attempts=1)


def test_it_may_be_said_while_the_model_is_being_asked() -> None:
    wire = Wire()
    asked = wire.prompt(), wire.running(), wire.event("span.model_request_start")
    done = after(*RUNNING).when(seen(*asked, wire.unconnected(), wire.message("so"), wire.idle()))
    done.saying("turn.completed", reply="so", attempts=1)


def test_the_providers_own_tries_are_waited_for() -> None:
    wire = Wire()
    said = wire.prompt(), wire.running(), wire.unconnected(retry_status="retrying")
    session = after(*RUNNING, seen(*said))
    assert not session.state.awaits_people
    done = session.when(seen(*wire.reply()[2:]))
    done.saying("turn.completed", attempts=1)


def test_a_refresh_that_fails_in_the_middle_of_the_turn_waits_too() -> None:
    wire = Wire()
    call = wire.tool_use(kind="agent.mcp_tool_use")
    worked = wire.prompt(), wire.running(), wire.event("span.model_request_start"), call
    waits = after(*RUNNING).when(seen(*worked, wire.unconnected(), wire.idle("retries_exhausted")))
    assert waits.state.connection_pauses
    assert waits.state.calls == (), "the call died with its attempt"


def test_a_message_that_was_never_taken_up_waits_as_well() -> None:
    wire = Wire()
    waits = after(*RUNNING).when(
        seen(wire.running(), wire.unconnected(), wire.idle("retries_exhausted"))
    )
    assert waits.state.connection_pauses


def test_another_error_behind_it_is_tried_again_by_itself() -> None:
    wire = Wire()
    said = refused(wire, wire.unconnected(), wire.error("exhausted"))
    after(*RUNNING).when(seen(*said)).saying("turn.retrying", reason="model_error")


def test_a_server_that_can_not_be_reached_is_tried_again_first() -> None:
    wire = Wire()
    said = refused(wire, wire.unconnected(kind=UNREACHABLE))
    after(*RUNNING).when(seen(*said)).saying("turn.retrying", reason=UNREACHABLE)


def test_and_waits_for_people_when_that_is_in_vain() -> None:
    wire = Wire()
    said = refused(wire, wire.unconnected(kind=UNREACHABLE))
    waits = after(*RUNNING).when(seen(*said), Policy(max_attempts=1))
    assert waits.events[-1].type == "turn.requires_action"
    assert [action.name for action in waits.state.connection_pauses] == ["github"]


def test_a_new_failure_has_all_of_our_patience() -> None:
    session = connected(paused(), 4000)
    assert session.state.progress is not None
    assert session.state.progress.failing_since is None
    refused_again = session.when(failed(second=4001))
    refused_again.saying("turn.retrying", reason="overloaded_error")


def test_nobody_connects_it_in_time_and_the_turn_fails_and_names_the_server() -> None:
    late = paused(turn("t2", second=1)).when(elapsed(ANSWER_WITHIN + 100))
    assert [event.type for event in late.events][:2] == ["turn.failed", "turn.started"]
    late.saying("turn.failed", stop_reason="connection_required")
    assert b"github" in bytes(late.events[0].data)
    assert isinstance(late.decision.commands[0], Send)


def test_it_may_be_denied() -> None:
    session = paused()
    denied = session.when(confirming(action_of(session), 9, "deny"))
    denied.then("turn.failed", "session.idled")
    assert b"connecting it was denied" in bytes(denied.events[0].data)


def test_an_interrupt_ends_it_at_once() -> None:
    paused().when(interrupting(9)).then("turn.interrupted", "session.idled")


def test_an_archived_session_does_not_wait() -> None:
    closed = paused().when(archiving(9))
    assert [event.type for event in closed.events] == ["session.archived", "turn.interrupted"]


def test_a_deadline_ends_it() -> None:
    begun = opening(vault_ids=["vlt_1"]), turn("t1", deadline_seconds=50), bound()
    over = paused(begun=begun).when(elapsed(60))
    over.then("turn.interrupted", "session.idled")
    assert b"deadline_exceeded" in bytes(over.events[0].data)


def test_a_turn_past_its_deadline_does_not_begin_to_wait() -> None:
    wire = Wire()
    running = after(
        opening(), turn("t1", deadline_seconds=5), bound(), seen(wire.prompt(), wire.running())
    )
    overdue = Given(running.when(elapsed(6)).state)
    ended = overdue.when(seen(wire.unconnected(), wire.idle("retries_exhausted")))
    assert "turn.interrupted" in [event.type for event in ended.events]


def test_a_send_that_seems_to_fail_meanwhile_changes_nothing() -> None:
    paused().when(failed(second=9)).then()


def test_a_provider_session_that_ends_for_it_is_left_and_the_turn_waits() -> None:
    wire = Wire()
    said = wire.prompt(), wire.running(), wire.unconnected(retry_status="terminal")
    session = after(*RUNNING, seen(*said, wire.terminated()))
    assert session.state.connection_pauses
    made = session.when(confirming(action_of(session), 9))
    made.then("session.connection_made", commands=(Open(turn_id="t1"),))


def test_with_the_vaults_of_the_day_a_second_refusal_is_tried_in_another_provider_session() -> None:
    """The credential may be in a vault that the provider session can't have: it is newer."""
    begun = opening(), turn("t1"), bound()
    session = connected(paused(begun=begun))
    again = session.when(seen(*refused(Wire("again", 11))))
    types = [event.type for event in again.events]
    assert types[-2:] == ["session.rotated", "turn.retrying"]
    again.saying("session.rotated", reason="connection_renewed")
    elsewhere = Given(Given(again.state).when(elapsed(100)).state)
    started = Given(elsewhere.when(bound("sesn_2", 101)).state)
    third = started.when(seen(*refused(Wire("third", 102))))
    assert third.state.connection_pauses, "a new one has no more to give: people are asked"


def test_with_vaults_of_its_own_a_second_refusal_waits_again() -> None:
    again = connected(paused()).when(seen(*refused(Wire("again", 11))))
    assert again.events[-1].type == "turn.requires_action"
    assert again.state.provider_session_id == "sesn_1"


def test_a_session_that_vanishes_while_the_turn_waits_is_replaced() -> None:
    lost = paused().when(failed(reason="session_lost", lost=True, second=9))
    lost.then("session.rotated", "turn.retrying")
