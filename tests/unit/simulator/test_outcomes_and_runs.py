"""Outcomes with their evaluations, and workflow runs with their phases and threads, as they are played."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from infra.simulator.errors import ApiError
from tests.unit.simulator.provider import DEADLINE, Client, a_world, message

pytestmark = pytest.mark.unit


def an_outcome(description: str) -> dict[str, Any]:
    rubric = {"type": "text", "content": "one page"}
    return {"type": "user.define_outcome", "description": description, "rubric": rubric}


@pytest.mark.parametrize(
    ("script", "results"),
    [
        ("outcome", ["satisfied"]),
        ("outcome revise=2", ["needs_revision", "needs_revision", "satisfied"]),
        ("outcome revise=9", ["needs_revision"] * 2 + ["max_iterations_reached"]),
        ("outcome failed=1", ["failed"]),
    ],
)
async def test_an_outcome_is_evaluated_until_it_is_reached_or_given_up(
    script: str, results: list[str]
) -> None:
    client = Client(a_world())
    client.send(an_outcome(f"a page [[script: {script}]]"))
    await client.idle("end_turn")
    ends = [e for e in client.everything() if e["type"] == "span.outcome_evaluation_end"]
    assert [(end["iteration"], end["result"]) for end in ends] == list(enumerate(results))
    (shown,) = client.session.as_json()["outcome_evaluations"]
    assert (shown["result"], shown["iteration"]) == (results[-1], len(results) - 1)


async def test_an_evaluation_that_is_interrupted_says_so() -> None:
    client = Client(a_world(pace=1.0))
    client.send(an_outcome("a page [[script: outcome]]"))
    await client.until(lambda event: event["type"] == "span.outcome_evaluation_start")
    client.send({"type": "user.interrupt"})
    await client.idle("end_turn")
    (end,) = [e for e in client.everything() if e["type"] == "span.outcome_evaluation_end"]
    assert end["result"] == "interrupted"


@pytest.mark.parametrize("description", ["[[script: reply]]", "[[script: outcome calls=1]]"])
def test_an_outcome_takes_no_other_script(description: str) -> None:
    with pytest.raises(ApiError, match="outcome"):
        Client(a_world()).send(an_outcome(description))


@pytest.mark.parametrize("ending", ["", "fails=1", "stopped=1", "after=1"])
async def test_a_workflow_run_opens_and_closes_its_phases_and_ends_last(ending: str) -> None:
    client = Client(a_world())
    client.send(message(f"[[script: workflow phases=2 threads=2 {ending}]]"))
    await client.idle("end_turn")
    await asyncio.wait_for(client.session.driver or asyncio.sleep(0), DEADLINE)
    events = client.everything()
    own = [e for e in events if e["type"].startswith("workflow_run.")]
    assert own[0]["type"] == "workflow_run.created"
    assert own[-1]["type"] == "workflow_run.status_ended"
    assert len({event["workflow_run_id"] for event in own}) == 1
    started = [e["id"] for e in own if e["type"] == "workflow_run.phase_started"]
    ended = [e["phase_started_id"] for e in own if e["type"] == "workflow_run.phase_ended"]
    assert started == ended
    idle = next(n for n, e in enumerate(events) if e["type"] == "session.status_idle")
    assert (events.index(own[-1]) > idle) == (ending == "after=1")
    threads = [thread for thread in client.session.threads.values() if thread.run]
    assert [thread.status for thread in threads] == ["terminated"] * 4
    assert {thread.run for thread in threads} == {own[0]["workflow_run_id"]}
