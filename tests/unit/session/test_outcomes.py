"""A turn that asks for an outcome is queued, sent and ended as any other, and carries its evaluations."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from shared.session.commands import Send
from shared.session.events import Turn
from shared.session.fingerprint import fingerprint, fingerprint_of
from shared.session.inputs import Filed
from shared.session.outcome import Outcome, TextRubric, block, fields, outcome_in
from tests.builders import Wire, bound, seen, turn
from tests.unit.session.specification import after

pytestmark = pytest.mark.unit
WANTED = Outcome(description="a page", rubric=TextRubric(content="one page, no more"))
TOLD: dict[str, Any] = {"description": "a page", "rubric": msgspec.to_builtins(WANTED.rubric)}


def asking(turn_id: str = "t1", **more: Any) -> Filed:
    return turn(turn_id, UNSET, outcome=WANTED, **more)


def defined(wire: Wire, **more: Any) -> Any:
    return wire.event("user.define_outcome", outcome_id="outc_1", **{**TOLD, **more})


def evaluated(wire: Wire, iteration: int, result: str) -> Any:
    said: dict[str, Any] = {"outcome_id": "outc_1", "iteration": iteration, "result": result}
    return wire.event("span.outcome_evaluation_end", explanation="since so", **said)


def ended(events: tuple[Any, ...]) -> Turn:
    (end,) = (event for event in events if event.type == "turn.completed")
    return msgspec.json.decode(end.data, type=Turn)


def test_what_is_asked_for_is_the_turns_content() -> None:
    after().when(asking()).saying("turn.accepted", content=[block(WANTED)])
    after(asking()).when(bound()).then(
        "turn.started", commands=(Send(turn_id="t1", input_id="turn:t1", attempt=1, look=False),)
    )


def test_the_turn_ends_with_its_evaluations_in_their_order() -> None:
    wire = Wire()
    end = after(asking(), bound()).when(
        seen(
            wire.running(),
            defined(wire),
            wire.message("a draft"),
            evaluated(wire, 0, "needs_revision"),
            wire.message("a page"),
            evaluated(wire, 1, "satisfied"),
            wire.idle(),
        )
    )
    told = ended(end.events)
    assert told.reply == "a page"
    assert told.evaluations is not UNSET
    assert [(one.iteration, one.result) for one in told.evaluations] == [
        (0, "needs_revision"),
        (1, "satisfied"),
    ]
    assert {one.outcome_id for one in told.evaluations} == {"outc_1"}


def test_a_turn_that_asks_for_none_says_nothing_of_evaluations() -> None:
    wire = Wire()
    end = after(turn(), bound()).when(seen(*wire.reply()))
    assert ended(end.events).evaluations is UNSET


def test_an_outcome_that_somebody_else_defined_is_no_turns() -> None:
    wire = Wire()
    theirs = defined(wire, rubric={"type": "text", "content": "two pages"})
    heard = after(asking(), bound()).when(
        seen(wire.running(), theirs, evaluated(wire, 0, "failed"), wire.idle())
    )
    assert heard.state.open_turn == "t1"
    assert heard.state.turn is not None
    assert heard.state.turn.evaluations is UNSET
    ours = after(asking(), bound()).when(seen(wire.running(), defined(wire), wire.idle()))
    assert ours.state.open_turn is None


def test_an_outcome_is_known_again_by_its_rubric_whatever_stands_before_its_description() -> None:
    ours = fingerprint([block(WANTED)])
    theirs = {"type": "user.define_outcome", **TOLD, "description": "what was said\n\na page"}
    assert ours
    assert fingerprint_of(msgspec.json.encode(theirs)) == ours
    file = {"rubric": {"type": "file", "file_id": "file_1"}}
    assert fingerprint([file]) not in ("", ours)


def test_a_content_is_asked_for_again_by_the_field_it_came_in() -> None:
    assert fields("hello") == {"content": "hello"}
    assert fields([block(WANTED)]) == {"outcome": WANTED}
    assert outcome_in([{"type": "text", "text": "x"}]) is None
