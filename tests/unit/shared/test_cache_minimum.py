"""The minimum of the provider's cache: what is shipped is right, and what is unknown is not guessed."""

from __future__ import annotations

import pytest

from shared.cache_minimum import BadMinimums, Counted, estimated, load, read

pytestmark = pytest.mark.unit
TODAY = "2026-11-30"
ROW = '[[minimum]]\nmodel = "m"\ntokens = 100\nsince = 2026-01-01\nsource = "s"\n'


@pytest.mark.parametrize(
    ("model", "tokens", "missing"),
    [
        ("claude-opus-5", 511, 1),
        ("claude-opus-5", 512, 0),
        ("claude-sonnet-5", 0, 1_024),
        ("claude-sonnet-4-5-20250929", 1_000, 24),
        ("claude-opus-4-7", 5_000, 0),
        ("claude-haiku-4-5-20251001", 96, 4_000),
    ],
)
def test_a_prompt_is_short_of_its_models_minimum(model: str, tokens: int, missing: int) -> None:
    assert load().shortfall(model, tokens, TODAY) == missing


@pytest.mark.parametrize(
    "model",
    [
        *("claude-fable-5-2", "claude-fable-5-1", "claude-opus-5-5", "claude-sonnet-5-5"),
        *("claude-haiku-5-5", "claude-opus-6", ""),
    ],
)
def test_nobody_is_warned_of_a_minimum_that_no_source_tells(model: str) -> None:
    assert load().shortfall(model, 0, TODAY) is None
    assert load().warning(model, Counted(tokens=0, estimate=False), TODAY) is None


def test_every_shipped_row_has_a_source() -> None:
    assert all(row.source for row in load().rows)


def test_a_later_row_holds_from_its_day_on() -> None:
    later = ROW.replace("100", "50").replace("2026-01-01", "2026-06-01")
    minimums = read(ROW + later)
    assert minimums.shortfall("m", 60, "2026-05-31") == 40
    assert minimums.shortfall("m", 60, "2026-06-01") == 0
    assert minimums.shortfall("m", 60, "2025-01-01") == 40


def test_the_warning_names_the_missing_tokens_and_says_what_is_estimated() -> None:
    counted = read(ROW).warning("m", Counted(tokens=60, estimate=False), TODAY)
    guessed = read(ROW).warning("m", estimated("x" * 239), TODAY)
    assert counted is not None
    assert guessed is not None
    assert "has 60 tokens, 40 fewer than m needs" in counted
    assert "has about 60 tokens, about 40 fewer" in guessed


def test_a_prompt_that_is_long_enough_is_not_spoken_of() -> None:
    assert read(ROW).warning("m", Counted(tokens=100, estimate=False), TODAY) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ROW.replace("100", "0"), "tokens"),
        (ROW.replace("100", '"some"'), "tokens"),
        (ROW.replace("2026-01-01", '"today"'), "since"),
        (ROW.replace("source", "sauce"), "sauce, source"),
        (ROW + ROW, "two rows"),
        ("[[minimum", "end of document"),
    ],
)
def test_a_wrong_row_is_named_with_its_field(text: str, words: str) -> None:
    with pytest.raises(BadMinimums, match=words):
        read(text)
