"""A provider session that is made before any turn: found by the first one, given back where none comes, missed by
nobody where it can't be made."""

from __future__ import annotations

import pytest

from shared.session.commands import AnyCommand, Close, Open, Send
from shared.session.events import PREWARM_MAX
from shared.session.inputs import Input
from shared.session.policy import Policy
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
from tests.unit.session.specification import Given, after, given

pytestmark = pytest.mark.unit

ASKED = opening(prewarm=True)
PREWARM = Open(turn_id="")
KEPT = Policy().prewarm_for
SEND = Send(turn_id="t1", input_id="turn:t1", attempt=1, look=False)


def prewarmed(*more: Input) -> Given:
    return after(ASKED, bound(second=1), *more)


def refused(reason: str = "overloaded_error") -> Input:
    return failed("", reason, second=1)


def test_a_session_that_is_to_be_prewarmed_opens_a_provider_session_without_a_turn() -> None:
    opened = given().when(ASKED).then("session.opened", commands=(PREWARM,))
    opened.saying("session.opened", prewarm=True)
    ready = Given(opened.state).when(bound(second=1)).then("session.prewarmed")
    ready.saying("session.prewarmed", provider_session_id="sesn_1", archive_at=at(1 + KEPT))
    assert ready.state.provider_session_id == "sesn_1"
    assert ready.state.due_at == at(1 + KEPT)
    assert not ready.state.may_adopt


@pytest.mark.parametrize("word", [{}, {"prewarm": False}])
def test_one_that_is_not_opens_none_and_says_nothing_of_it(word: dict[str, bool]) -> None:
    opened = given().when(opening(**word)).then("session.opened")
    assert b"prewarm" not in bytes(opened.events[0].data)


def test_a_repeated_request_opens_no_second_one() -> None:
    after(ASKED).when(ASKED).then()


def test_the_first_turn_finds_it_and_is_only_sent() -> None:
    asked = prewarmed().when(turn(second=2))
    asked.then("turn.accepted", "turn.started", commands=(SEND,))
    asked.saying("turn.started", provider_session_id="sesn_1", attempts=1)
    assert asked.state.due_at is None
    told = Given(asked.state).when(seen(*Wire("one", 2).reply()))
    told.saying("turn.completed", reply="well", cost_usd=0.03)


def test_a_turn_that_comes_while_it_is_made_makes_none_of_its_own() -> None:
    asked = after(ASKED).when(turn(second=0.5)).then("turn.accepted")
    began = Given(asked.state).when(bound(second=1))
    began.then("session.prewarmed", "turn.started", commands=(SEND,))
    began.saying("session.prewarmed", archive_at=None)
    assert began.state.rest is None


def test_where_none_comes_it_is_archived_and_the_session_takes_turns_all_the_same() -> None:
    prewarmed().when(elapsed(KEPT)).then()
    gone = prewarmed().when(elapsed(1 + KEPT))
    close = Close(provider_session_id="sesn_1", erase=False)
    gone.then("session.archived", commands=(close,)).saying("session.archived", reason="idle")
    asked = Given(gone.state).when(turn(second=9000))
    asked.then("turn.accepted", "session.rotated", commands=(Open(turn_id="t1"),))
    assert asked.state.rotated_from is None, "nothing was said there"


def test_what_can_not_be_made_is_said_and_not_tried_again() -> None:
    cold = after(ASKED).when(refused()).then("session.prewarm_failed")
    cold.saying("session.prewarm_failed", reason="overloaded_error", detail="in words")
    assert (cold.state.status, cold.state.due_at) == ("idle", None)
    asked = Given(cold.state).when(turn(second=2))
    asked.then("turn.accepted", commands=(Open(turn_id="t1"),))
    assert asked.state.prewarm == "failed", "whoever opens looks for what may have been made"
    began = Given(asked.state).when(bound(second=3)).then("turn.started", commands=(SEND,))
    assert began.state.prewarm == ""


def test_where_nobody_was_asked_nothing_is_looked_for() -> None:
    assert after(ASKED, refused(PREWARM_MAX)).state.prewarm == ""


def test_a_turn_that_waited_in_vain_makes_one_as_usual() -> None:
    waiting = after(ASKED, turn(second=0.5))
    waiting.when(refused()).then("session.prewarm_failed", commands=(Open(turn_id="t1"),))


def test_a_turn_that_waits_for_company_begins_when_its_time_has_come() -> None:
    gathering = after(ASKED, turn(second=0.9, on_busy="coalesce"))
    early = gathering.when(bound(second=1)).then("session.prewarmed")
    Given(early.state).when(elapsed(1.2)).then("turn.started", commands=(SEND,))
    late = Given(gathering.when(elapsed(1.2)).then().state)
    late.when(bound(second=1.3)).then("session.prewarmed", "turn.started", commands=(SEND,))


def test_a_turn_whose_deadline_came_meanwhile_is_not_sent() -> None:
    waiting = after(ASKED, turn(second=0.5, deadline_seconds=2.0), elapsed(2.5))
    done = waiting.when(bound(second=3))
    done.then("session.prewarmed", "turn.interrupted", "session.idled")


def test_an_interrupt_waits_for_the_turn_it_is_for() -> None:
    waiting = after(ASKED, turn(second=0.5), interrupting(0.7))
    waiting.when(bound(second=1)).then("session.prewarmed", "turn.started", commands=(SEND,))


@pytest.mark.parametrize(("close", "status"), [(archiving, "archived"), (erasing, "erased")])
@pytest.mark.parametrize("waiting", [(), (turn(second=0.5),)])
def test_what_was_closed_meanwhile_closes_what_was_made(
    close: object, status: str, waiting: tuple[Input, ...]
) -> None:
    closed = after(ASKED, *waiting, close(0.7))  # type: ignore[operator]
    assert closed.state.may_adopt
    done = closed.when(bound(second=1))
    ended = ["turn.interrupted"] if waiting else []
    gone: tuple[AnyCommand, ...] = (Close(provider_session_id="sesn_1", erase=status == "erased"),)
    done.then("session.prewarm_failed", *ended, commands=gone)
    done.saying("session.prewarm_failed", reason=f"session_{status}")
    assert not done.state.may_adopt
    lost = closed.when(refused()).then("session.prewarm_failed", *ended)
    assert not lost.state.may_adopt


@pytest.mark.parametrize(("close", "erase"), [(archiving, False), (erasing, True)])
def test_one_that_waits_for_a_turn_is_closed_with_its_session(close: object, erase: bool) -> None:
    closed = prewarmed().when(close(2))  # type: ignore[operator]
    assert closed.decision.commands == (Close(provider_session_id="sesn_1", erase=erase),)
    assert closed.state.due_at is None
