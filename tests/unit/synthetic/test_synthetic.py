"""Synthetic events are such as a session can have: the core folds them, numbers and ids are without fault."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from shared.session import Event, fold, read_event
from shared.session.events import TURN_ENDS
from tests.synthetic.__main__ import main
from tests.synthetic.copies import Plan, sessions

pytestmark = pytest.mark.unit

PLAN = Plan(events=12_000, patterns=120, seed=7)


@pytest.fixture(scope="module")
def logs() -> list[list[Event]]:
    return [[read_event(line) for line in text.splitlines()] for text, _ in sessions(PLAN)]


def test_the_core_folds_every_session(logs: list[list[Event]]) -> None:
    """A log whose events could not follow each other raises IllegalTransition."""
    ends = Counter(fold(events).status for events in logs[:-1])
    assert set(ends) == {"idle", "archived"}


def test_what_turns_cost_is_what_the_session_cost(logs: list[list[Event]]) -> None:
    for events in logs[:-1]:
        turns = [msgspec.json.decode(e.data) for e in events if e.type in TURN_ENDS]
        state = fold(events)
        assert round(sum(turn["cost_usd"] for turn in turns) * 100) == state.cost_cents
        assert sum(turn["usage"]["output_tokens"] for turn in turns) == state.usage.output_tokens


def test_there_are_exactly_as_many_as_asked_for_and_none_twice(logs: list[list[Event]]) -> None:
    events = [event for log in logs for event in log]
    assert len(events) == PLAN.events
    assert len({event.event_id for event in events}) == PLAN.events


def test_numbers_have_no_gap_and_times_never_go_back(logs: list[list[Event]]) -> None:
    for events in logs:
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert [event.at for event in events] == sorted(event.at for event in events)
    assert all("1000-01" not in event.at for events in logs for event in events)


def test_every_kind_of_turn_and_tool_is_there(logs: list[list[Event]]) -> None:
    types = {event.type for events in logs for event in events}
    ends = {"turn.completed", "turn.refused", "turn.interrupted"}
    tools = {"agent.tool_use", "agent.mcp_tool_use", "agent.custom_tool_use"}
    others = {"session.rotated", "session.thread_created", "turn.retrying", "turn.requires_action"}
    assert ends | tools | others <= types


def test_a_seed_gives_the_same_bytes_and_another_one_others() -> None:
    def made(seed: int) -> bytes:
        plan = Plan(events=2_000, patterns=20, seed=seed)
        return b"".join(text for text, _ in sessions(plan))

    assert made(1) == made(1)
    assert made(1) != made(2)


def test_the_command_writes_lines(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["--events", "50", "--patterns", "5"]) == 0
    assert len(capfdbinary.readouterr().out.splitlines()) == 50
