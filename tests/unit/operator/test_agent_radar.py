"""Models that go, as of a day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.operator.agents.radar import Model, Use, endings, words

pytestmark = pytest.mark.unit
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
MODELS = [
    Model("claude-new", "active"),
    Model("claude-old-20250101", "deprecated", NOW + timedelta(days=1)),
    Model("claude-vague", "deprecated"),
    Model("claude-late", "deprecated", NOW - timedelta(days=3)),
    Model("claude-gone", "retired", NOW - timedelta(days=90)),
]


def told(*models: str) -> list[tuple[str, str]]:
    uses = [Use(model, "a") for model in models]
    return [(one.model, words(one)) for one in endings(MODELS, uses, NOW)]


def test_active_models_are_not_named() -> None:
    assert told("claude-new") == []


def test_a_model_that_retires_tomorrow_stands_before_one_without_a_day() -> None:
    assert told("claude-vague", "claude-old-20250101", "claude-gone", "claude-late") == [
        ("claude-gone", "retired 2026-09-01"),
        ("claude-late", "deprecated; was to retire 2026-11-27"),
        ("claude-old-20250101", "deprecated; retires 2026-12-01, 1 days left"),
        ("claude-vague", "deprecated; no day is set"),
    ]


def test_a_model_named_without_its_day_is_the_dated_one() -> None:
    assert told("claude-old") == [("claude-old", "deprecated; retires 2026-12-01, 1 days left")]


def test_one_that_is_not_listed_is_said_to_be_not_listed() -> None:
    assert told("claude-other") == [("claude-other", "not in the provider's list")]


def test_each_model_is_named_once_with_all_who_use_it() -> None:
    uses = [Use("claude-gone", "a"), Use("claude-gone", "b"), Use("claude-gone", "a")]
    (only,) = endings(MODELS, uses, NOW)
    assert only.who == ("a", "b")
