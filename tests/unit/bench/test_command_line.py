"""What `python -m tests.bench` refuses, and that both sides of a leg are told the same."""

from pathlib import Path

import pytest

from tests.bench.__main__ import LEGS, main

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["acept"],
            "no leg 'acept'; there are accept, first_token, live, overhead, record, replay, sessions",
        ),
        (["--seconds", "0"], "more than 0"),
        (["--seconds", "soon"], "--seconds"),
        (["--rounds", "0"], "--rounds"),
    ],
)
def test_a_wrong_argument_is_named(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


def test_a_profile_without_its_program_says_how_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit) as stopped:
        main(["accept", "--profile", str(tmp_path)])
    assert stopped.value.code == 2
    assert "uv tool install py-spy" in capsys.readouterr().err


def test_help_names_every_leg(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert all(leg in text for leg in LEGS)
