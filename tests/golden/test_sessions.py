"""Logs of every released version fold to the states they folded to then."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from shared.session import Event, fold, read_event
from shared.session.state import decode
from shared.session.transitions import IllegalTransition
from tests.golden.record import SESSIONS, log_of, newest, recorded

pytestmark = pytest.mark.unit

LOGS = sorted(SESSIONS.glob("v*/*.jsonl"))
ILLEGAL = sorted(SESSIONS.glob("illegal/*.jsonl"))


def events_of(log: Path) -> list[Event]:
    return [read_event(line) for line in log.read_bytes().splitlines()]


@pytest.mark.parametrize("log", LOGS, ids=lambda log: f"{log.parent.name}-{log.stem}")
def test_a_recorded_log_folds_as_it_did(log: Path) -> None:
    assert fold(events_of(log)) == decode(log.with_suffix(".state.json").read_bytes())


@pytest.mark.parametrize("log", LOGS, ids=lambda log: f"{log.parent.name}-{log.stem}")
def test_a_recorded_log_is_numbered_without_gaps(log: Path) -> None:
    events = events_of(log)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))


@pytest.mark.parametrize("name", sorted(recorded()))
def test_todays_core_writes_the_same_log(name: str) -> None:
    """When this fails on purpose, leave the old files and record a folder for the new version."""
    log = newest(name)
    assert log is not None
    lines = log.read_bytes().splitlines()
    assert [msgspec.json.encode(event) for event in log_of(name)] == lines


@pytest.mark.parametrize("log", ILLEGAL, ids=lambda log: log.stem)
def test_a_log_that_cannot_be_is_refused(log: Path) -> None:
    with pytest.raises(IllegalTransition, match="at seq"):
        fold(events_of(log))


def test_there_are_logs_of_both_kinds() -> None:
    assert len(LOGS) >= 12
    assert ILLEGAL
