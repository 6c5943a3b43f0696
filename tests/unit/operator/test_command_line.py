"""What the command line says when it is asked wrongly or can't do its work."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from services.operator.addresses import archive, database
from services.operator.main import COMMANDS, build

pytestmark = pytest.mark.unit

NOWHERE = "127.0.0.1:1"  # a port nobody listens on


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(build(), list(arguments))
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--help"], "migrate"),
        (["migrate", "--help"], "--dry-run"),
        (["dead", "--help"], "list"),
        (["replay", "--help"], "--speed"),
    ],
)
def test_help_ends_well_and_explains(arguments: list[str], says: str) -> None:
    code, output = run(*arguments)
    assert code == 0
    assert says in output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_describes_itself(name: str) -> None:
    code, output = run(name, "--help")
    assert code == 0
    assert f" {name} [OPTIONS]" in output


def imported(*arguments: str) -> set[str]:
    """The modules that the command has imported when it ends."""
    asked = (
        f"import sys, services.operator.main as m; m.build()({arguments!r}, standalone_mode=False)"
    )
    words = f"{asked}; print(*sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", words], capture_output=True, text=True, timeout=60, check=True
    )
    return set(told.stdout.splitlines()[-1].split())


def test_a_command_does_not_wait_for_what_others_import() -> None:
    """Every start of a stack migrates."""
    assert not {"anthropic", "sqlalchemy"} & imported("migrate", "--help")


def test_who_asks_for_help_does_not_wait_for_the_providers_sdk() -> None:
    """It takes a second and a half of processor time; a command that asks the provider imports it then."""
    found = imported("--help")
    assert "services.operator.audits.provider" in found
    assert "anthropic" not in found


@pytest.mark.parametrize("place", ["7", "a/b", "1/2/3", "1/-2"])
def test_a_wrong_place_is_explained(place: str) -> None:
    code, output = run("dead", "show", place)
    assert code == 2
    assert "PARTITION/OFFSET" in output


def test_a_missing_archive_is_one_sentence_without_the_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TURNSTILE_CLICKHOUSE_URL", f"http://reader:geheim1@{NOWHERE}/turnstile")
    code, output = run("replay", "ses_1", "--tenant", "acme")
    assert code == 1
    assert "replaying ses_1 from http://127.0.0.1:1/turnstile" in output
    assert "geheim1" not in output


def test_a_tenant_is_asked_for_where_there_are_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNSTILE_TENANTS", "acme,umbrella")
    code, output = run("replay", "ses_1")
    assert code == 1
    assert "--tenant NAME" in output


def test_addresses_are_shown_without_user_and_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNSTILE_CLICKHOUSE_URL", "http://u:p%40ss@ch.example:8123/t")
    monkeypatch.setenv("TURNSTILE_DATABASE_URL", "sqlite+aiosqlite:////var/x.db")
    assert archive().shown == "http://ch.example:8123/t"
    assert archive().secrets == ("p%40ss", "p@ss")
    assert database().shown == "sqlite+aiosqlite:////var/x.db"
