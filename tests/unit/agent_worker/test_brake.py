"""When bad data stops the process."""

from __future__ import annotations

import pytest

from shared.bus.brake import LEAST, Brake, Braked

pytestmark = pytest.mark.unit


def test_a_run_of_bad_records_pulls_the_brake() -> None:
    brake = Brake(ratio=1.0, consecutive=3)
    brake.bad()
    brake.bad()
    with pytest.raises(Braked, match="3 records in a row"):
        brake.bad()


def test_a_good_record_ends_a_run() -> None:
    brake = Brake(ratio=1.0, consecutive=3)
    for _ in range(50):
        brake.bad()
        brake.bad()
        brake.good(1)


def test_a_large_share_pulls_the_brake_once_enough_were_seen() -> None:
    brake = Brake(ratio=0.25, consecutive=1000)
    for _ in range(LEAST // 3):
        brake.good(2)
        brake.bad()
    brake.good(2)
    with pytest.raises(Braked, match="of the latest"):
        brake.bad()


def test_a_few_bad_records_at_the_start_say_nothing() -> None:
    brake = Brake(ratio=0.25, consecutive=1000)
    for _ in range(LEAST - 1):
        brake.bad()


def test_old_records_are_forgotten() -> None:
    brake = Brake(ratio=0.25, consecutive=1000)
    for _ in range(150):
        brake.bad()
    brake.good(100_000)
    for _ in range(200):
        brake.bad()
        brake.good(3)


def test_no_records_change_nothing() -> None:
    brake = Brake(ratio=1.0, consecutive=2)
    brake.bad()
    brake.good(0)
    with pytest.raises(Braked):
        brake.bad()
