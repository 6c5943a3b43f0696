"""Turns that ask for an outcome: defined once, whatever dies, and told of anew in another provider session."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from services.agent_worker.session.prompt import NUDGE
from shared.session.inputs import Filed
from shared.session.outcome import Outcome, TextRubric
from tests.builders import turn
from tests.fakes.provider import past_of
from tests.unit.agent_worker.outside import Outside
from tests.unit.agent_worker.plays.retries import UNKNOWN

WANTED = "a page"


def wishing(turn_id: str, wanted: str = WANTED, **more: Any) -> Filed:
    rubric = TextRubric(content="one page, no more")
    return turn(turn_id, UNSET, outcome=Outcome(description=wanted, rubric=rubric), **more)


async def outcome(outside: Outside) -> None:
    outside.ask(turn("t1", "good morning"), wishing("t2"))


async def outcome_again(outside: Outside) -> None:
    """It lands, its answer is lost, and it can't be looked for; then the very same is asked for."""
    outside.provider.lost_answers.append(UNKNOWN)
    outside.ask(wishing("t1"), wishing("t2"))


async def outcome_moved(outside: Outside) -> None:
    """The provider session ends with an error in mid-turn, and the next one is told what was said."""
    outside.provider.fates.append("terminal")
    outside.rotations = 1
    outside.sent = [WANTED, f"{past_of('sesn_1')}\n\n{WANTED}"]
    outside.ask(wishing("t1"))


async def outcome_stalled(outside: Outside) -> None:
    """The agent says nothing: interrupted, and told to go on, which defines nothing again."""
    outside.sent = ["hold on", NUDGE]
    outside.ask(wishing("t1", "hold on"))
    await outside.said("turn.completed")


PLAYS = (outcome, outcome_again, outcome_moved, outcome_stalled)
