"""Rules of retention: which one holds, and what is said of a faulty one."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from shared.retention import Rule, read
from shared.settings import ArchiveSettings

pytestmark = pytest.mark.unit

TEXT = "*=365d, acme=90d, acme/agent.thinking=7d, */span.*=30d, beta=forever,"


def test_rules_are_read_the_one_that_holds_first() -> None:
    assert [str(rule) for rule in read(TEXT)] == [
        "acme/agent.thinking=7d",
        "*/span.*=30d",
        "acme=90d",
        "beta=forever",
        "*=365d",
    ]
    assert read(" ") == ()
    assert read("a=36h")[0] == Rule("a", "*", 36)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("*=365d, acme", r"part 2, 'acme': write tenant=time"),
        ("ac me=1d", r"part 1, 'ac me=1d': 'ac me' is no tenant"),
        ("acme/Agent=1d", r"'Agent' is no event type"),
        ("acme/*.x=1d", r"'\*.x' is no event type"),
        ("acme=7", r"'7' is no time; write days as 90d"),
        ("acme=-7d", r"'-7d' is no time"),
        ("acme=0d", r"'0d' is out of range"),
        ("acme=99999d", r"'99999d' is out of range"),
        ("acme=1d, acme/*=2d", r"part 2, 'acme/\*=2d': this is said twice"),
    ],
)
def test_a_faulty_part_is_named(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read(text)


def test_a_kind_may_be_a_beginning() -> None:
    (rule,) = read("*/span.*=1d")
    assert rule.takes("span.model_request_end")
    assert not rule.takes("agent.message")


def test_a_wrong_setting_stops_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNSTILE_RETENTION", "acme=soon")
    with pytest.raises(ValidationError, match="TURNSTILE_RETENTION, part 1, 'acme=soon'"):
        ArchiveSettings()
    monkeypatch.setenv("TURNSTILE_RETENTION", TEXT)
    assert ArchiveSettings().kept == read(TEXT)
