"""The file of prices: what is shipped is right, what is wrong is named, and the simulator bills the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.simulator.play.usage import RATES, Tokens, Usage
from shared.price_file import BadPrices, load, read
from shared.session.events import Usage as Used
from shared.session.prices import running_micro_usd

pytestmark = pytest.mark.unit
TODAY = "2026-11-30"
ROW = '[[price]]\nmodel = "m"\ninput = 1\noutput = 2\n'


@pytest.mark.parametrize(
    ("model", "day", "prompt", "row"),
    [
        ("claude-sonnet-5-5", "2026-10-06", 1, "claude-sonnet-5-5@2026-09-28"),
        ("claude-sonnet-5-5", "2026-10-07", 1, "claude-sonnet-5-5@2026-10-07"),
        ("claude-haiku-5-5", TODAY, 100_000, "claude-haiku-5-5@2026-10-07<=100000"),
        ("claude-haiku-5-5", TODAY, 100_001, "claude-haiku-5-5@2026-10-07"),
        ("claude-haiku-4-5-20251001", TODAY, 1, "claude-haiku-4-5"),
        ("claude-opus-5", TODAY, 1, "claude-opus-5@2026-07-24"),
    ],
)
def test_a_request_has_the_row_of_its_model_day_and_prompt(
    model: str, day: str, prompt: int, row: str
) -> None:
    found = load().find(model, day, prompt)
    assert found is not None
    assert found.id == row


@pytest.mark.parametrize("model", ["claude-opus-5-6", "claude-sonnet-5-5-5", "gpt", ""])
def test_a_model_that_no_row_names_has_no_price(model: str) -> None:
    assert load().find(model, TODAY, 1) is None


def test_a_model_has_no_price_before_its_first_day() -> None:
    assert load().find("claude-opus-5", "2026-07-23", 1) is None


@pytest.mark.parametrize("model", [model for model in RATES if load().find(model, TODAY, 1)])
@pytest.mark.parametrize("fresh", [50_000, 150_000])
def test_the_simulators_own_table_comes_to_the_same(model: str, fresh: int) -> None:
    price = load().find(model, TODAY, fresh + 3_000)
    assert price is not None
    bill = Usage()
    bill.add(
        model,
        Tokens(fresh=fresh, output=7_000, cache_read=1_000, cache_write=2_000, cache_hour=800),
    )
    used = Used(
        input_tokens=fresh, output_tokens=7_000, cache_read_tokens=1_000, cache_write_tokens=2_000
    )
    assert price.micro_usd(used) + price.hour_micro_usd(800) == bill.nanodollars // 1_000


def test_an_hour_of_running_costs_eight_cents() -> None:
    assert running_micro_usd(3_600_000) == 80_000


def test_what_a_row_leaves_out_is_reckoned_from_the_input_and_known_to_be() -> None:
    (price,) = read(ROW).rows
    used = Used(cache_read_tokens=1_000, cache_write_tokens=1_000)
    assert (price.micro_usd(used), price.hour_micro_usd(1_000)) == (100 + 1_250, 750)
    assert (price.knows(used), price.knows(Used(input_tokens=1))) == (False, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[price]]\ninput = 1", "price 1: model"),
        (ROW.replace("output = 2", ""), r"price 1 \(m\): output"),
        (ROW + "since = 2026", "since: a day"),
        (ROW + "up_to = 0", "up_to: a number"),
        (ROW + "cache_read = -1", "cache_read: US dollars"),
        (ROW + "cache_read = 0.0001", "finer than"),
        (ROW + "cache_reed = 1", "no such field: cache_reed"),
        (ROW + ROW, "two rows for m"),
        ("price = 1", "rows are written"),
        ("price", "Expected|expected"),
    ],
)
def test_a_wrong_row_is_named(text: str, said: str) -> None:
    with pytest.raises(BadPrices, match=said):
        read(text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadPrices, match=r"none\.toml"):
        load(str(tmp_path / "none.toml"))


def test_a_file_of_ones_own_takes_the_place_of_the_shipped_one(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(ROW)
    assert [row.id for row in load(str(file)).rows] == ["m"]
