"""What the command line says when it is asked wrongly or can't do its work."""

import pytest
from typer.testing import CliRunner

from services.operator.addresses import archive, database
from services.operator.main import build

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
def test_help_helps(arguments: list[str], says: str) -> None:
    code, output = run(*arguments)
    assert code == 0
    assert says in output


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
