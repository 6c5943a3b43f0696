"""Percentiles of samples, and the line that shows how noisy the rounds were."""

import pytest

from tests.bench.figures import percentile, rounds_of, spread_ms

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("samples", "percent", "expected"),
    [
        ([], 50, 0.0),
        ([7.0], 1, 7.0),
        ([7.0], 99, 7.0),
        ([3.0, 1.0, 2.0], 50, 2.0),
        ([4.0, 1.0, 3.0, 2.0], 50, 2.0),
        ([float(n) for n in range(1, 101)], 99, 99.0),
        ([float(n) for n in range(1, 101)], 100, 100.0),
        ([float(n) for n in range(1, 1001)], 99.9, 999.0),
    ],
)
def test_a_percentile_is_a_sample(samples: list[float], percent: float, expected: float) -> None:
    assert percentile(samples, percent) == expected


def test_seconds_become_milliseconds_and_are_read_once() -> None:
    assert spread_ms(n / 1000 for n in range(1, 101)) == (50.0, 99.0)


def test_every_round_is_shown() -> None:
    text = rounds_of([1_204.4, 980.0], [3_000.6], "requests/s")
    assert text == "rounds in requests/s: ours 1,204, 980; bare 3,001"
