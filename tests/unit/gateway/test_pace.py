"""How long what comes is left to gather between two batches."""

from __future__ import annotations

import pytest

from services.gateway.adapters.kafka_consumers import Pace

pytestmark = pytest.mark.unit


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("count", "left"), [(0, 0.0), (1, 0.25), (3, 0.75), (8, 2.0), (99, 2.0), (100, 0.0), (500, 0.0)]
)
def test_a_batch_keeps_the_next_one_for_its_records_up_to_the_most_unless_it_is_full(
    count: int, left: float
) -> None:
    pace = Pace(0.25, 2.0, 100, Clock())
    pace.took(count)
    assert pace.left == left


def test_the_time_that_a_batch_takes_to_be_dealt_with_counts() -> None:
    pace = Pace(0.25, 2.0, 100, clock := Clock())
    pace.took(8)
    clock.now += 1.5
    assert pace.left == 0.5
    clock.now += 1.5
    assert pace.left == 0.0


def test_the_first_batch_is_read_at_once() -> None:
    assert Pace(0.25, 2.0, 100, Clock()).left == 0.0
