"""What an operator counts: every turn, token and cent once, and times from when a turn was submitted."""

from __future__ import annotations

from typing import Any

import pytest

from shared import metrics
from tests.builders import Wire, archiving, bound, elapsed, failed, seen, turn
from tests.unit.agent_worker.told import Told

pytestmark = pytest.mark.unit
ENDED = "turnstile_turns_ended_total"


class Moved:
    """How far the metrics moved since it was made."""

    def __init__(self) -> None:
        self._before = self._all()

    def __call__(self, name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return round(self._all().get(key, 0.0) - self._before.get(key, 0.0), 6)

    def _all(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        samples = (sample for metric in metrics.REGISTRY.collect() for sample in metric.samples)
        return {(s.name, tuple(sorted(s.labels.items()))): s.value for s in samples}


def test_a_turn_is_counted_with_its_times() -> None:
    moved, told, wire = Moved(), Told(), Wire()
    told.tell(turn(second=1), second=3)
    told.tell(bound(second=3.5), second=3.5)
    told.tell(seen(*wire.reply()), second=9)
    assert moved(ENDED, status="completed") == 1
    assert moved("turnstile_turn_queue_seconds_count") == 1
    assert moved("turnstile_turn_queue_seconds_sum") == 2.5
    assert moved("turnstile_turn_first_token_seconds_sum") == 4
    assert moved("turnstile_turn_first_output_seconds_sum") == 4
    assert moved("turnstile_turn_seconds_sum", status="completed") == 7


def test_tokens_and_dollars_are_counted_as_they_come() -> None:
    moved, told, wire = Moved(), Told(), Wire()
    told.tell(turn(), bound())
    told.tell(seen(wire.prompt(), wire.spent(10, 5, cache_read_input_tokens=7), wire.cost(3)))
    told.tell(seen(wire.spent(1, 2, cache_creation_input_tokens=4), wire.cost(12)))
    told.tell(seen(wire.cost(12), wire.idle()))
    kinds = ("input", "output", "cache_read", "cache_write")
    assert [moved("turnstile_tokens_total", kind=kind) for kind in kinds] == [11, 7, 7, 4]
    assert moved("turnstile_cost_usd_total") == 0.12


def test_what_comes_after_the_turn_is_counted_too() -> None:
    told, wire = Told(), Wire()
    told.tell(turn(), bound())
    told.tell(seen(*wire.reply()))
    moved = Moved()
    told.tell(seen(wire.spent(3, 0), wire.cost(5)))
    assert moved("turnstile_tokens_total", kind="input") == 3
    assert moved("turnstile_cost_usd_total") == 0.02


def test_requests_to_a_model_without_a_price_are_counted() -> None:
    moved, told = Moved(), Told()
    told.tell(turn(), bound())
    told.tell(seen(*Wire().reply()))
    assert moved("turnstile_unpriced_requests_total") == 1


def test_what_the_agent_does_besides_talking_is_counted() -> None:
    moved, told, wire = Moved(), Told(), Wire()
    told.tell(turn(), bound())
    run: dict[str, Any] = {"workflow_run_id": "wrun_1"}
    told.tell(
        seen(
            wire.event("span.outcome_evaluation_end", result="needs_revision"),
            wire.event("span.outcome_evaluation_end", result="sublime"),
            wire.event("workflow_run.error", **run),
            wire.event("workflow_run.status_ended", **run, result={"type": "error"}),
            wire.event("workflow_run.status_ended", **run, result="gone"),
            wire.event("workflow_run.error", workflow_run_id=None),
            wire.event("agent.thread_context_compacted"),
            wire.event("session.status_rescheduled"),
        )
    )
    evaluations, runs = "turnstile_outcome_evaluations_total", "turnstile_workflow_runs_total"
    assert moved(evaluations, result="needs_revision") == 1
    assert moved(evaluations, result="other") == 1
    assert [moved(runs, result=end) for end in ("error", "other", "refused")] == [1, 1, 1]
    assert moved("turnstile_compactions_total") == 1
    assert moved("turnstile_provider_reschedules_total") == 1


def test_a_second_attempt_is_a_retry_and_no_second_wait() -> None:
    moved, told = Moved(), Told()
    told.tell(turn(), bound())
    told.tell(failed(reason="overloaded_error"))
    told.tell(elapsed(900))
    assert moved("turnstile_turn_retries_total", reason="overloaded_error") == 1
    assert moved("turnstile_turn_queue_seconds_count") == 1


def test_clocks_that_differ_give_no_time_below_zero() -> None:
    moved, told, wire = Moved(), Told(), Wire(second=0)
    told.tell(turn(second=60), second=30)
    told.tell(bound(second=30), second=30)
    told.tell(seen(*wire.reply()))
    assert moved("turnstile_turn_queue_seconds_sum") == 0
    assert moved("turnstile_turn_seconds_sum", status="completed") == 0
    assert moved("turnstile_turn_seconds_count", status="completed") == 1


def test_a_turn_that_never_started_has_no_wait_and_no_token() -> None:
    moved, told = Moved(), Told()
    told.tell(turn(), bound(), turn("t2", second=1), archiving(second=4))
    assert moved(ENDED, status="refused") == 1
    assert moved("turnstile_turn_seconds_sum", status="refused") == 3
    assert moved("turnstile_turn_queue_seconds_count") == 1, "the first turn's"
    assert moved("turnstile_turn_first_token_seconds_count") == 0
