"""Which letters go back, and as what."""

import pytest
from typer.testing import CliRunner

from services.operator.dead_letter import DeadLetter
from services.operator.main import build
from services.operator.redrive import hindrance

pytestmark = pytest.mark.unit


def letter(source: str, *more: tuple[str, str]) -> DeadLetter:
    headers = (("dead_reason", "bad"), ("dead_source", source), *more)
    return DeadLetter(partition=1, offset=2, timestamp=3, key="ses_1", headers=headers, size=0)


@pytest.mark.parametrize("source", ["turnstile.inputs.v1/0/1", "inbox/acme/ce:1"])
def test_inputs_go_back(source: str) -> None:
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
