"""The tables of variables in docs/operations.md say what the settings' fields say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from infra.docs.variables import BEGIN, END, PAGE, page, tables
from infra.local.settings import read_settings
from services.agent_worker.settings import Settings as WorkerSettings
from services.gateway.settings import Settings as GatewaySettings
from services.recorder.settings import Settings as RecorderSettings
from shared.settings import ProcessSettings

pytestmark = pytest.mark.unit
ALL = [GatewaySettings, WorkerSettings, RecorderSettings]
ROOT = Path(__file__).parents[3]


def test_the_page_is_as_the_fields_say() -> None:
    assert page(PAGE.read_text(encoding="utf-8")) == PAGE.read_text(encoding="utf-8")


def test_a_page_that_drifted_is_mended() -> None:
    stale = f"before\n{BEGIN}| `TURNSTILE_CONCURRENCY` | 7 | wrong |\n{END}after\n"
    assert page(stale) == f"before\n{BEGIN}\n{tables()}\n{END}after\n"


def test_a_page_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"operations\.md lacks the marks"):
        page("no marks")


@pytest.mark.parametrize("settings", ALL)
def test_every_variable_says_what_it_is(settings: type[ProcessSettings]) -> None:
    assert [one.name for one in settings.variables() if not one.description] == []


def test_no_variable_stands_for_two_things_in_one_process() -> None:
    for settings in ALL:
        names = [one.name for one in settings.variables()]
        assert len(names) == len(set(names))


def test_defaults_are_shown_as_one_would_set_them() -> None:
    shown = {one.name: one.default for one in WorkerSettings.variables()}
    assert shown["TURNSTILE_PARK_SESSIONS"] == "0"
    assert shown["TURNSTILE_LEASE_SECONDS"] == "3"
    assert shown["TURNSTILE_CLICKHOUSE_URL"] == "http://default:@127.0.0.1:8123/turnstile"
    assert shown["ANTHROPIC_API_KEY"] == ""


def test_help_lists_every_variable_of_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.recorder.main", "--help"],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=True,
    )
    listed = set(re.findall(r"^  ([A-Z_]+)[=:]", done.stdout.decode(), re.MULTILINE))
    assert listed == {one.name for one in RecorderSettings.variables()}


def test_each_text_of_the_stack_is_taken_from_the_variable_its_table_names() -> None:
    texts = {
        "TURNSTILE_KAFKA_BOOTSTRAP": "kafka_bootstrap",
        "TURNSTILE_CLICKHOUSE_URL": "clickhouse_url",
        "TURNSTILE_DATABASE_URL": "database_url",
        "ANTHROPIC_BASE_URL": "anthropic_base_url",
        "ANTHROPIC_API_KEY": "anthropic_api_key",
        "TURNSTILE_API_KEYS": "api_keys",
        "TURNSTILE_MAVEN_URL": "maven_url",
    }
    settings = read_settings({"HOME": "/nowhere", **{name: f"of {name}" for name in texts}})
    assert {name: getattr(settings, field) for name, field in texts.items()} == {
        name: f"of {name}" for name in texts
    }
