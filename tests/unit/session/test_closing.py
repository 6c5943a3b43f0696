"""Archive and erase, with turns open and waiting."""

from __future__ import annotations

import pytest

from shared.session.commands import Close, Interrupt
from shared.session.inputs import Filed
from tests.builders import (
    Wire,
    archiving,
    at,
    bound,
    erasing,
    failed,
    opening,
    seen,
    turn,
)
from tests.unit.session.specification import after, given

pytestmark = pytest.mark.unit

BOTH = pytest.mark.parametrize(
    ("asked", "type", "erase"),
    [(archiving(50), "session.archived", False), (erasing(50), "session.erased", True)],
)


@BOTH
def test_an_idle_session_is_closed_at_the_provider(asked: Filed, type: str, erase: bool) -> None:
    close = Close(provider_session_id="sesn_1", erase=erase)
    idle = after(turn("t1"), bound(), seen(*Wire().reply()))
    closed = idle.when(asked).then(type, commands=(close,))
    assert closed.state.status == type.removeprefix("session.")


@BOTH
def test_a_session_that_never_ran_has_nothing_to_close(
    asked: Filed, type: str, erase: bool
) -> None:
    after(opening()).when(asked).then(type)


@BOTH
def test_an_unknown_session_is_opened_before_it_is_closed(
    asked: Filed, type: str, erase: bool
) -> None:
    given().when(asked).then("session.opened", type)


@BOTH
def test_open_and_waiting_turns_end(asked: Filed, type: str, erase: bool) -> None:
    busy = after(turn("t1"), bound(), turn("t2"), turn("t3"))
    stop = (Interrupt(turn_id="t1"), Close(provider_session_id="sesn_1", erase=erase))
    closed = busy.when(asked).then("turn.refused", "turn.refused", type, commands=stop)
    assert [event.turn_id for event in closed.events[:2]] == ["t2", "t3"]
    assert closed.state.queue == ()
    word = type.removeprefix("session.")
    assert f'"session_{word}"'.encode() in bytes(closed.events[0].data)


@BOTH
def test_a_waiting_attempt_ends_by_ourselves(asked: Filed, type: str, erase: bool) -> None:
    waiting = after(turn("t1"), bound(), failed(second=40, chance=0.5))
    close = Close(provider_session_id="sesn_1", erase=erase)
    closed = waiting.when(asked).then(type, "turn.interrupted", commands=(close,))
    closed.saying("turn.interrupted", ended_at=at(50))
    assert closed.state.status == type.removeprefix("session.")


@BOTH
def test_the_open_turn_ends_with_the_provider(asked: Filed, type: str, erase: bool) -> None:
    wire = Wire()
    prompt, idle, gone = wire.prompt(), wire.idle(), wire.terminated()
    closing = after(turn("t1"), bound(), asked)
    stopped = closing.when(seen(prompt, wire.interrupted(), idle))
    stopped.then("user.message", "user.interrupt", "session.status_idle", "turn.interrupted")
    closing.when(seen(prompt, gone)).then(
        "user.message", "session.status_terminated", "turn.interrupted"
    )
    assert stopped.state.status == type.removeprefix("session.")


@BOTH
def test_a_failing_open_turn_is_not_tried_again(asked: Filed, type: str, erase: bool) -> None:
    closing = after(turn("t1"), bound(), asked)
    closing.when(failed(second=60)).then("turn.failed")


@BOTH
def test_no_more_turns_are_taken(asked: Filed, type: str, erase: bool) -> None:
    closed = after(opening(), asked)
    closed.when(turn("t9", second=60)).then("turn.refused").saying(
        "turn.refused", turn_id="t9", ended_at=at(60)
    )
    closed.when(opening(70)).then()


def test_archiving_again_changes_nothing() -> None:
    after(opening(), archiving(50)).when(archiving(60)).then()


def test_an_archived_session_can_still_be_erased() -> None:
    after(opening(), archiving(50)).when(erasing(60)).then("session.erased")


def test_an_erased_session_is_neither_archived_nor_erased_again() -> None:
    erased = after(opening(), erasing(50))
    erased.when(archiving(60)).then()
    erased.when(erasing(60)).then()
