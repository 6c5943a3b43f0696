"""Tools that the worker runs itself: answered once, whoever dies, and left when nobody wants them any more."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from shared.errors import Transient
from tests.builders import answering, interrupting, turn
from tests.unit.agent_worker.outcome import the_log
from tests.unit.agent_worker.outside import Outside
from tests.unit.agent_worker.test_shell import KEY, given, settled, types
from tests.unit.agent_worker.virtual_time import virtual
from tests.unit.agent_worker.worker import TOOL_SECONDS

pytestmark = pytest.mark.unit
ASKS = turn("t1", "what time is it? [[script: own_tool]]")


def answers(outside: Outside) -> list[dict[str, object]]:
    """The results that the provider was given."""
    log = the_log(outside)
    return [msgspec.json.decode(e.data) for e in log if e.type == "user.custom_tool_result"]


async def waiting(outside: Outside) -> str:
    """The call that waits; answers its id."""
    await outside.said("turn.requires_action")
    await outside.until(lambda: outside.clock_runs > 0, "a run")
    (action,) = outside.store.rows[KEY].head.state.pending
    return action.tool_use_id


@virtual
async def test_a_known_tool_is_run_and_its_result_given() -> None:
    outside, worker = given()
    outside.ask(ASKS)
    await settled(outside)
    (answer,) = answers(outside)
    assert answer["content"] == "noon"
    assert types(outside).count("turn.completed") == 1
    assert (outside.clock_runs, worker.effects.done.count("answer")) == (1, 1)
    filed = await outside.store.read(KEY, f"tool:{answer['custom_tool_use_id']}")
    assert filed.traceparent, "it is part of the turn's trace"


@virtual
async def test_an_unknown_tool_stays_for_people() -> None:
    outside, _ = given()
    outside.ask(turn("t1", "what is it? [[script: custom_tool]]"))
    await settled(outside)
    assert outside.store.rows[KEY].head.state.status == "requires_action"
    assert outside.clock_runs == 0


@virtual
async def test_a_session_is_kept_while_its_tool_runs() -> None:
    """Longer than an idle session lingers."""
    outside, worker = given()
    outside.clock_seconds = 2.0
    outside.ask(ASKS)
    await settled(outside)
    assert worker.effects.done.count("claim") == 1
    assert types(outside).count("turn.completed") == 1


@virtual
async def test_a_tool_that_takes_too_long_is_an_error_for_the_agent() -> None:
    outside, _ = given()
    outside.clock_seconds = 2 * TOOL_SECONDS
    outside.ask(ASKS)
    await settled(outside)
    (answer,) = answers(outside)
    assert (answer["is_error"], answer["content"]) == (
        True,
        "no result within 3 s; it was given up",
    )
    assert types(outside).count("turn.completed") == 1


@virtual
async def test_an_answer_from_outside_ends_the_run() -> None:
    outside, worker = given()
    outside.clock_seconds = 2.5
    outside.ask(ASKS)
    outside.ask(answering(await waiting(outside), content="by people"))
    await settled(outside)
    assert [answer["content"] for answer in answers(outside)] == ["by people"]
    assert worker.effects.done.count("answer") == 1
    await asyncio.sleep(5)
    assert not any(row.topic.endswith("dead.v1") for row in outside.publisher.records)


@virtual
async def test_an_interrupt_ends_the_run() -> None:
    outside, worker = given()
    outside.clock_seconds = 2.5
    outside.ask(ASKS)
    await waiting(outside)
    outside.ask(interrupting(1))
    await settled(outside)
    assert types(outside).count("turn.interrupted") == 1
    assert answers(outside) == []
    assert "answer" not in worker.effects.done


@virtual
async def test_the_next_worker_runs_it_when_one_dies_meanwhile() -> None:
    outside, first = given()
    outside.clock_seconds = 2.0
    outside.ask(ASKS)
    await waiting(outside)
    await first.kill()
    given("another", outside)
    await settled(outside)
    assert outside.clock_runs == 2
    assert [answer["content"] for answer in answers(outside)] == ["noon"]


@virtual
async def test_a_filed_result_is_not_worked_out_again() -> None:
    """The worker dies behind the filing: the next one gives what it finds."""
    outside, first = given()
    first.effects.slow["answer"] = 2.0
    outside.ask(ASKS)
    await outside.until(lambda: "answer" in first.effects.done, "the answer on its way")
    await first.kill()
    given("another", outside)
    await settled(outside)
    assert outside.clock_runs == 1
    assert [answer["content"] for answer in answers(outside)] == ["noon"]


@virtual
async def test_a_worker_that_stops_lets_its_tool_finish() -> None:
    outside, first = given()
    outside.clock_seconds = 1.0
    outside.ask(ASKS)
    await waiting(outside)
    await first.drain()
    given("another", outside)
    await settled(outside)
    assert outside.clock_runs == 1
    assert [answer["content"] for answer in answers(outside)] == ["noon"]


@virtual
async def test_a_result_waits_for_the_database() -> None:
    outside, worker = given()
    outside.ask(ASKS)
    await waiting(outside)
    worker.effects.fails["file"] = [Transient("database_away", "gone") for _ in range(3)]
    await settled(outside)
    assert outside.clock_runs == 1
    assert [answer["content"] for answer in answers(outside)] == ["noon"]
