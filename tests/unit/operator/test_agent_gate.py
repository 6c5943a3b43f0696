"""What a gate lets through: turns that end as they did, on the agent that was meant, for not much more."""

from __future__ import annotations

import pytest

from services.operator.agents.gate import judged
from services.operator.past import ToldTurn
from services.operator.reruns.compare import Pair
from shared.session.events import Turn, TurnStatus

pytestmark = pytest.mark.unit
AT = "2026-11-30T10:00:00.000000Z"


def told(status: TurnStatus, cost: float, agent: str = "agent_1") -> ToldTurn:
    turn = Turn(
        turn_id="t1", user_id="u", status=status, cost_usd=cost, submitted_at=AT, ended_at=AT
    )
    return ToldTurn(turn_id="t1", content="hello", turn=turn, agent=agent)


def pair(status: TurnStatus | None, cost: float = 0.1, agent: str = "agent_1") -> Pair:
    rerun = None if status is None else told(status, cost, agent)
    was = told("completed", 0.1)
    return Pair(session="s", shadow="rerun:g:s", place=3, recorded=was, rerun=rerun)


def test_turns_that_end_as_they_did_pass() -> None:
    assert judged([pair("completed"), pair("completed", 0.19)], "agent_1", 2) == ""


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([], "0 of 0 turns have not ended"),
        ([pair("completed"), pair(None)], "1 of 2 turns have not ended"),
        (
            [pair("completed"), pair("failed")],
            "1 of 2 turns end otherwise with version 2: s turn 3",
        ),
        ([pair("completed", 0.16)], "the turns cost $0.1600 and were recorded for $0.1000"),
        ([pair("completed", agent="agent_9")], "the turns went to agent_9"),
    ],
)
def test_what_does_worse_or_can_not_be_told_does_not_pass(found: list[Pair], words: str) -> None:
    assert words in judged(found, "agent_1", 2)
