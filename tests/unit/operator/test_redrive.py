"""Which letters go back, and as what."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from services.operator.dead.letter import DeadLetter
from services.operator.dead.redrive import hindrance, sent_again
from services.operator.main import build

pytestmark = pytest.mark.unit


def letter(source: str, *more: tuple[str, str], reason: str = "bad") -> DeadLetter:
    headers = (("dead_reason", reason), ("dead_source", source), *more)
    return DeadLetter(partition=1, offset=2, timestamp=3, key="ses_1", headers=headers, size=0)


@pytest.mark.parametrize("source", ["turnstile.inputs.v1/0/1", "inbox/acme/ce:1"])
def test_inputs_go_back_to_their_topic(source: str) -> None:
    assert hindrance(letter(source)) is None


def test_events_and_letters_without_their_value_stay() -> None:
    assert "turnstile.events.v1" in (hindrance(letter("turnstile.events.v1/0/1")) or "")
    cut = letter("turnstile.inputs.v1/0/1", ("dead_value_bytes", "9"))
    assert "turnstile.inputs.v1/0/1" in (hindrance(cut) or "")


def test_a_mark_names_the_letter_it_settles() -> None:
    mark = letter("", ("dead_settled", "redriven"), ("dead_settled_offset", "7"))
    assert mark.settles == 7
    assert letter("turnstile.inputs.v1/0/1").settles is None


def test_dropping_needs_to_know_which() -> None:
    result = CliRunner().invoke(build(), ["dead", "drop"])
    assert result.exit_code == 2
    assert "--reason" in result.output


@pytest.mark.parametrize("command", ["redrive", "drop"])
def test_a_wrong_place_is_explained(command: str) -> None:
    result = CliRunner().invoke(build(), ["dead", command, "--id", "7"])
    assert result.exit_code == 2
    assert "PARTITION/OFFSET" in result.output


def turn(turn_id: str) -> Any:
    value = {"turn_id": turn_id, "content": "hello", "on_busy": "interrupt"}
    headers = [("ce_id", b"id-1"), ("ce_type", b"turn.requested"), ("dead_reason", b"x")]
    return SimpleNamespace(value=json.dumps(value).encode(), headers=headers)


def test_what_nobody_could_use_goes_back_as_it_came() -> None:
    record = turn("t1")
    value, headers = sent_again(letter("turnstile.inputs.v1/0/1"), record)
    assert value == record.value
    assert headers == [("ce_id", b"id-1"), ("ce_type", b"turn.requested")]


@pytest.mark.parametrize(
    ("failed", "again"),
    [
        ("t1", "t1:again-1-2"),
        ("t1:again-0-9", "t1:again-1-2"),
        ("t" * 128, "t" * 118 + ":again-1-2"),
    ],
)
def test_a_failed_turn_is_asked_again_as_another_one_behind_what_waits(
    failed: str, again: str
) -> None:
    dead = letter("inbox/acme/ce:1", reason="turn_failed")
    value, headers = sent_again(dead, turn(failed))
    assert json.loads(value or b"") == {
        "turn_id": again,
        "content": "hello",
        "on_busy": "enqueue",
    }
    assert dict(headers) == {"ce_id": b"redriven:1/2", "ce_type": b"turn.requested"}
