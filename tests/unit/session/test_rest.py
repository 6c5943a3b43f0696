"""Sessions that no turn keeps busy: idle, archived for want of turns, ended with their result, and gone on with."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from shared.session.commands import Close, Open
from shared.session.inputs import Input
from shared.session.lifetimes import Lifetimes, read
from shared.session.policy import DEFAULT, Policy
from shared.session.state import GIVEN_UP
from tests.builders import (
    Wire,
    archiving,
    at,
    bound,
    elapsed,
    erasing,
    failed,
    interrupting,
    opening,
    seen,
    turn,
)
from tests.unit.session.specification import RESTING, WEARING, Given, given, history

pytestmark = pytest.mark.unit

REPLY = Wire().reply()
ENDED = 8.0  # the second in which REPLY ends
DONE: tuple[Input, ...] = (turn("t1"), bound(), seen(*REPLY))
CLOSE = Close(provider_session_id="sesn_1", erase=False)


def resting(*inputs: Input, policy: Policy = RESTING) -> Given:
    return given(*history(*inputs, policy=policy))


def idle() -> Given:
    return resting(*DONE, elapsed(ENDED + 900))


def dormant() -> Given:
    return resting(*DONE, elapsed(ENDED + 900), elapsed(ENDED + 3600))


def test_a_session_is_idle_a_quarter_of_an_hour_after_its_last_turn() -> None:
    done = resting(*DONE)
    assert done.state.due_at == at(ENDED + 900)
    done.when(elapsed(ENDED + 899), RESTING).then()
    said = done.when(elapsed(ENDED + 900), RESTING).then("session.idled")
    said.saying("session.idled", last_turn_id="t1", idle_since=at(ENDED), cost_usd=0.03)
    assert said.state.due_at == at(ENDED + 3600)


def test_an_hour_after_its_last_turn_it_is_archived_and_so_is_its_provider_session() -> None:
    gone = idle().when(elapsed(ENDED + 3600), RESTING)
    gone.then("session.archived", commands=(CLOSE,)).saying("session.archived", reason="idle")
    assert (gone.state.status, gone.state.public_status) == ("dormant", "archived")
    assert gone.state.due_at is None
    Given(gone.state).when(elapsed(ENDED + 99_999), RESTING).then()


def test_the_next_turn_goes_on_in_another_provider_session() -> None:
    asked = dormant().when(turn("t2", second=9000), RESTING)
    asked.then("turn.accepted", "session.rotated", commands=(Open(turn_id="t2"),))
    asked.saying("session.rotated", provider_session_id="sesn_1", reason="idle")
    assert asked.state.status == "running"
    assert asked.state.rotated_from == "sesn_1", "what was said there is carried"
    assert asked.state.given_up == ("sesn_1",), "an erasure knows of it"
    began = Given(asked.state).when(bound("sesn_2", 9001), RESTING)
    ended = Given(began.state).when(seen(*Wire("two", 9001).reply()), RESTING)
    ended.saying("turn.completed", reply="well", turn_id="t2")
    assert ended.state.due_at == at(9001 + 7 + 900), "and it rests anew"


def test_a_turn_that_comes_with_the_deadline_keeps_the_session() -> None:
    asked = idle().when(turn("t2", second=ENDED + 3600), RESTING)
    Given(asked.state).when(elapsed(ENDED + 3600), RESTING).then()


def test_a_turn_while_it_is_idle_is_sent_to_the_session_it_has() -> None:
    asked = idle().when(turn("t2", second=2000), RESTING)
    assert [event.type for event in asked.events] == ["turn.accepted", "turn.started"]
    assert asked.state.provider_session_id == "sesn_1"


def test_whoever_looks_late_archives_late() -> None:
    """A worker was away for a day, or a clock jumped: nothing is said of what nobody saw."""
    resting(*DONE).when(elapsed(90_000), RESTING).then("session.archived", commands=(CLOSE,))


def test_a_session_that_waits_for_people_does_not_rest() -> None:
    wire = Wire()
    asks = seen(wire.prompt(), wire.tool_use("ask"), wire.idle("requires_action"))
    waiting = resting(turn("t1"), bound(), asks)
    waiting.when(elapsed(7200), RESTING).then()


@pytest.mark.parametrize("inputs", [(opening(),), (turn("t1"), failed(second=1, final=True))])
def test_without_a_provider_session_there_is_nothing_to_end(inputs: tuple[Input, ...]) -> None:
    assert resting(*inputs).state.due_at is None


def test_what_comes_late_from_a_session_that_is_left_is_recorded() -> None:
    wire = Wire("late", 4000)
    dormant().when(seen(wire.terminated()), RESTING).then("session.status_terminated")


def test_a_session_that_was_archived_for_rest_can_be_closed_for_good() -> None:
    closed = dormant().when(archiving(9000), RESTING)
    closed.then("session.archived", commands=(CLOSE,)).saying(
        "session.archived", reason="requested"
    )
    Given(closed.state).when(turn("t2", second=9001), RESTING).then("turn.refused")
    erased = dormant().when(erasing(9000), RESTING)
    erased.then("session.erased", commands=(Close(provider_session_id="sesn_1", erase=True),))


def test_a_turn_that_waits_for_company_goes_on_elsewhere_too() -> None:
    gathers = dormant().when(turn("t2", second=9000, on_busy="coalesce"), RESTING)
    gathers.then("turn.accepted")
    begun = Given(gathers.state).when(elapsed(9001), RESTING)
    begun.then("session.rotated", commands=(Open(turn_id="t2"),))
    given_back = Given(gathers.state).when(interrupting(9000), RESTING)
    given_back.then("turn.interrupted", "session.idled")
    again = Given(given_back.state).when(elapsed(99_999), RESTING)
    again.then("session.archived")


# ---- background sessions --------------------------------------------------------------------------------------


def background(*inputs: Input) -> Given:
    return resting(opening(mode="background"), *inputs)


def test_a_background_session_is_ended_and_deleted_with_its_result() -> None:
    ended = background(turn("t1"), bound()).when(seen(*REPLY), RESTING)
    assert [event.type for event in ended.events][-2:] == ["session.idled", "session.archived"]
    assert ended.decision.commands == (Close(provider_session_id="sesn_1", erase=True),)
    ended.saying("session.archived", reason="done")
    assert ended.state.due_at is None


def test_a_background_session_has_its_result_with_its_last_turn() -> None:
    first = background(turn("t1"), bound(), turn("t2")).when(seen(*REPLY), RESTING)
    assert [event.type for event in first.events][-2:] == ["turn.completed", "turn.started"]


def test_a_background_session_takes_another_turn() -> None:
    done = background(turn("t1"), bound(), seen(*REPLY))
    done.when(turn("t2", second=60), RESTING).then(
        "turn.accepted", "session.rotated", commands=(Open(turn_id="t2"),)
    )


# ---- provider sessions that have grown long -------------------------------------------------------------------


def worn_by(**bounds: str) -> Policy:
    return Policy(
        lifetimes=Lifetimes(**{name: read(text, most=1e9) for name, text in bounds.items()})
    )


def compacted() -> Input:
    wire = Wire()
    return seen(wire.prompt(), wire.event("agent.thread_context_compacted"), *wire.reply()[3:])


@pytest.mark.parametrize(
    ("policy", "inputs", "worn"),
    [
        (WEARING, DONE, True),
        (worn_by(turns="2"), DONE, False),
        (worn_by(tokens="15"), DONE, True),
        (worn_by(tokens="16"), DONE, False),
        (worn_by(compactions="1"), (turn("t1"), bound(), compacted()), True),
        (worn_by(compactions="1"), DONE, False),
        (worn_by(turns="0"), DONE, False),
    ],
)
def test_a_provider_session_is_retired_by_its_length(
    policy: Policy, inputs: tuple[Input, ...], worn: bool
) -> None:
    last = resting(*inputs[:-1], policy=policy).when(inputs[-1], policy)
    last.saying("session.idled", retires="length" if worn else None)
    assert last.decision.commands == ((CLOSE,) if worn else ())


def test_the_turn_after_goes_on_in_another_one_and_counts_anew() -> None:
    asked = resting(*DONE, policy=WEARING).when(turn("t2", second=60), WEARING)
    asked.then("turn.accepted", "session.rotated", commands=(Open(turn_id="t2"),))
    asked.saying("session.rotated", reason="length")
    assert asked.state.length.turns == 0


def test_turns_that_wait_go_to_the_provider_session_there_is() -> None:
    """It is exchanged at rest: what it has yet to say is heard first."""
    busy = resting(turn("t1"), bound(), turn("t2"), policy=WEARING)
    ended = busy.when(seen(*REPLY), WEARING)
    assert ended.events[-1].type == "turn.started"
    assert ended.state.provider_session_id == "sesn_1"


def test_no_more_provider_sessions_are_left_behind_than_an_erasure_knows() -> None:
    session = resting(*DONE, policy=WEARING)
    for number in range(2, GIVEN_UP + 3):
        second = 100.0 * number
        asked = session.when(turn(f"t{number}", second=second), WEARING)
        dropped = [do for do in asked.decision.commands if isinstance(do, Close)]
        began = Given(asked.state).when(bound(f"sesn_{number}", second), WEARING)
        answer = Wire(f"w{number}", second).reply()
        session = Given(Given(began.state).when(seen(*answer), WEARING).state)
    assert dropped == [Close(provider_session_id="sesn_1", erase=True)]
    assert len(session.state.given_up) == GIVEN_UP


# ---- settings -------------------------------------------------------------------------------------------------


def test_settings_by_tenant_and_mode() -> None:
    by = read("900, acme=300, acme/background=60, */background=30", most=1e6)
    assert by.of("other", "interactive") == 900
    assert by.of("other", "background") == 30
    assert by.of("acme", "interactive") == 300
    assert by.of("acme", "background") == 60
    assert read("", most=1).of("acme", "interactive") == 0


def test_a_tenant_without_an_end_has_none() -> None:
    policy = Policy(lifetimes=Lifetimes(archive=read("3600, acme=0", most=1e6)))
    assert resting(*DONE, policy=policy).state.due_at is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("soon", "part 1, 'soon': 'soon' is no number; write 900, acme=300 or acme/background=60"),
        ("900, acme=-1", "part 2, 'acme=-1': -1 is out of range: 0 to 1e+06"),
        ("900, acme=nan", "part 2, 'acme=nan': nan is out of range: 0 to 1e+06"),
        ("acme/fast=1", "'fast' is no mode; there are interactive and background"),
        ("a b=1", "'a b' is no tenant; * is any"),
        ("900, 800", "part 2, '800': this is said twice"),
    ],
)
def test_a_setting_that_cannot_be_read_names_its_part(text: str, words: str) -> None:
    with pytest.raises(ValueError, match="part") as refused:
        read(text, most=1e6)
    assert words in str(refused.value)


def test_without_lifetimes_a_session_rests_for_ever() -> None:
    assert resting(*DONE, policy=DEFAULT).state.due_at is None


def test_what_a_provider_session_says_that_a_turn_has_left_is_nothing_of_the_next_ones() -> None:
    begun = (*DONE, elapsed(ENDED + 900), elapsed(ENDED + 3600), turn("t2"))
    late = seen(Wire("late", 4000.0).event("session.usage", usage={"input_tokens": 9_000}))
    lost = failed("t2", lost=True)
    for left in (resting(*begun), resting(*begun, bound("sesn_2"))):
        assert left.state.open_turn == "t2"
        left.when(replace(late, provider_session_id="sesn_1"), RESTING).then()
        left.when(replace(lost, provider_session_id="sesn_1"), RESTING).then()
    of_it = left.when(replace(late, provider_session_id="sesn_2"), RESTING)
    assert [event.type for event in of_it.events] == ["session.charged", "session.usage"]
    of_it = left.when(replace(lost, provider_session_id="sesn_2"), RESTING)
    assert of_it.events[0].type == "session.rotated"
