"""Old shapes are lifted, newer ones refused; a build that reads an old log otherwise than before is found out."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from shared.session import Event, evolve_own, evolve_provider, fold, read_event
from shared.session.events import OWN_TYPES
from shared.session.state import SessionState, decode
from shared.session.upcast import Steps, UnknownShape, lifted
from tests.golden.record import SESSIONS
from tests.golden.test_sessions import LOGS, events_of

pytestmark = pytest.mark.unit

SUMS = SESSIONS / "SHA256SUMS"
UNLIFTABLE = sorted(SESSIONS.glob("unliftable/*.jsonl"))


def misread() -> list[str]:
    """The golden logs that this build does not fold as it was recorded."""
    return [log.stem for log in LOGS if not _folds_as_recorded(log)]


def _folds_as_recorded(log: Path) -> bool:
    try:
        state = fold(events_of(log))
    except Exception:
        return False
    return state == decode(log.with_suffix(".state.json").read_bytes())


@pytest.mark.parametrize("log", UNLIFTABLE, ids=lambda log: log.stem)
def test_a_log_with_a_shape_that_cannot_be_lifted_is_refused_by_name(log: Path) -> None:
    with pytest.raises(UnknownShape, match=r"turn\.accepted at seq 2 has shape \d+; this build"):
        fold(events_of(log))


def test_there_are_logs_with_a_shape_that_cannot_be_lifted() -> None:
    assert UNLIFTABLE


def _same(state: SessionState, event: Event) -> SessionState:
    return state


@pytest.mark.parametrize(
    "kind", sorted(OWN_TYPES & {e.type for log in LOGS for e in events_of(log)})
)
def test_an_own_event_that_means_something_else_is_noticed(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each type in turn is read as if it meant nothing: some golden log must fold otherwise."""
    # The end of the turn has made it idle, and a refused answer leaves all as it was: they only say so.
    if kind in ("session.idled", "session.answer_refused"):
        return
    monkeypatch.setitem(evolve_own.OWN, kind, _same)
    assert misread(), f"no golden log depends on what {kind} means"


@pytest.mark.parametrize(
    "kind",
    ["user.message", "agent.message", "agent.tool_use", "session.usage", "session.thread_created"],
)
def test_a_provider_event_that_means_something_else_is_noticed(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(evolve_provider.PROVIDER, kind, _same)
    assert misread()


def test_a_changed_record_is_noticed() -> None:
    """A golden log whose content was changed folds to another state than the one kept beside it."""
    log = SESSIONS / "v0.1" / "completed.jsonl"
    changed = log.read_bytes().replace(b'"input_tokens":10', b'"input_tokens":11')
    assert changed != log.read_bytes()
    assert fold(map(read_event, changed.splitlines())) != decode(
        log.with_suffix(".state.json").read_bytes()
    )


def test_no_released_log_was_ever_edited() -> None:
    """SHA256SUMS is written by `tests.golden.record` and only ever grows."""
    lines = [line.partition("  ") for line in SUMS.read_text().splitlines()]
    sums = {name: digest for digest, _, name in lines}
    assert sorted(sums) == sorted(str(log.relative_to(SESSIONS)) for log in LOGS)
    for name, digest in sums.items():
        assert hashlib.sha256((SESSIONS / name).read_bytes()).hexdigest() == digest, name


def _event(data: dict[str, Any]) -> Event:
    first = events_of(LOGS[0])[0]
    return replace(first, type="turn.accepted", data=msgspec.Raw(msgspec.json.encode(data)))


STEPS: Steps = {
    ("turn.accepted", 1): lambda data: {**data, "content": data["text"]},
    ("turn.accepted", 2): lambda data: {**data, "on_busy": "enqueue"},
}


def test_steps_lift_one_shape_after_the_other() -> None:
    old = lifted(_event({"text": "hi"}), STEPS)
    assert msgspec.json.decode(old.data) == {
        "text": "hi", "content": "hi", "on_busy": "enqueue", "shape": 3,
    }  # fmt: skip
    middle = lifted(_event({"content": "hi", "shape": 2}), STEPS)
    assert msgspec.json.decode(middle.data)["on_busy"] == "enqueue"


def test_the_newest_shape_is_left_as_it_came() -> None:
    newest = _event({"shape": 3})
    assert lifted(newest, STEPS) is newest
    said = _event({"content": 'the word "shape"'})
    assert lifted(said) is said


@pytest.mark.parametrize("shape", [0, 4])
def test_what_no_step_leads_from_or_to_is_refused(shape: int) -> None:
    with pytest.raises(UnknownShape, match=f"has shape {shape}; this build reads up to 3"):
        lifted(_event({"shape": shape}), STEPS)
