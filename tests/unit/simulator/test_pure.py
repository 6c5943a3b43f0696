"""The pure pieces: replies, directives, ids, times, costs."""

import hashlib
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.simulator import reply_to, stamps, text_of
from infra.simulator.chance import Ids
from infra.simulator.directive import directive_in
from infra.simulator.play.usage import Tokens, Usage, rates_of
from infra.simulator.reply import own_words

pytestmark = pytest.mark.unit


@given(st.text())
def test_a_reply_names_its_prompt(prompt: str) -> None:
    reply = reply_to(prompt)
    assert hashlib.sha256(prompt.encode()).hexdigest()[:12] in reply
    assert f"({len(prompt)} chars)" in reply
    assert reply == reply_to(prompt)


def test_a_reply_repeats_the_first_words() -> None:
    assert reply_to(" one two\r\nthree ").endswith("\nyou began: one two three")
    assert len(reply_to("x" * 10_000)) < 150


def test_text_of_joins_text_blocks_and_own_words_is_the_last() -> None:
    content: list[dict[str, Any]] = [
        {"type": "text", "text": "before"},
        {"type": "image", "source": {}},
        {"type": "text", "text": "mine"},
    ]
    assert text_of(content) == "before\nmine"
    assert own_words(content) == "mine"
    assert own_words([]) == ""


def test_the_last_directive_counts() -> None:
    found = directive_in("[[script: tools]] then [[script: long events=7, hold]]")
    assert found is not None
    assert (found.name, found.options) == ("long", {"events": 7.0, "hold": 1.0})
    assert directive_in("no [script] here") is None


@pytest.mark.parametrize("text", ["[[script: ]]", "[[script: reply pace=fast]]"])
def test_a_broken_directive_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="script"):
        directive_in(text)


def test_ids_have_the_provider_s_form_and_follow_the_seed() -> None:
    ids, same = Ids("a", 1), Ids("a", 1)
    made = [ids.event() for _ in range(500)]
    assert made == [same.event() for _ in range(500)]
    assert len(set(made)) == 500
    assert all(re.fullmatch(r"sevt_01[1-9A-HJ-NP-Za-km-z]{22}", ident) for ident in made)
    assert made != sorted(made)


@given(st.integers(min_value=0, max_value=4_000_000_000_000_000))
def test_written_times_read_back(micros: int) -> None:
    assert stamps.read(stamps.written(micros)) == micros


def test_times_take_the_shortest_exact_form() -> None:
    assert stamps.written(1_000_000) == "1970-01-01T00:00:01Z"
    assert stamps.written(1_005_000) == "1970-01-01T00:00:01.005Z"
    assert stamps.written(1_005_001) == "1970-01-01T00:00:01.005001Z"


@pytest.mark.parametrize("text", ["", "now", "2026-01-01", "2026-01-01T00:00:00", "1767225600"])
def test_a_time_needs_a_date_and_an_offset(text: str) -> None:
    with pytest.raises(ValueError, match="RFC 3339"):
        stamps.read(text)


def test_stamps_of_a_session_never_go_back_and_vary_in_width() -> None:
    clock = iter(range(1_000_000_000, 1_000_000_000 + 400 * 70_000, 70_001))
    made = stamps.Stamps(lambda: next(clock), "s")
    times = [made.next() for _ in range(400)]
    assert all(a < b for a, b in pairwise(times))
    digits = {len(stamps.written(t).partition(".")[2].rstrip("Z")) for t in times}
    assert digits == {0, 3, 6}


def test_cost_is_exact_inside_and_whole_cents_outside() -> None:
    usage = Usage()
    usage.add("claude-haiku-4-5", Tokens(fresh=8_933, output=591))
    assert usage.nanodollars == 8_933 * 1_000 + 591 * 5_000
    assert usage.of_session()["list_cost"] == {"amount": "1", "currency": "USD"}
    usage.add("claude-haiku-4-5", Tokens(cache_read=1_000, cache_write=1_000))
    assert usage.nanodollars == 8_933_000 + 2_955_000 + 100_000 + 1_250_000
    assert rates_of("claude-experimental-1") is None


@pytest.mark.parametrize(("minutes", "cents"), [(3.74, "0"), (3.75, "1"), (11.24, "1"), (60, "8")])
def test_a_sessions_cost_holds_its_running_time_to_the_nearest_cent(
    minutes: float, cents: str
) -> None:
    usage = Usage()
    usage.active = int(minutes * 60e6)
    assert usage.of_session()["list_cost"]["amount"] == cents
    assert usage.of_thread()["list_cost"]["amount"] == "0", "a thread's cost is that of its tokens"


def test_time_that_still_runs_is_paid_for_as_it_passes() -> None:
    usage = Usage()
    usage.active = 30 * 60_000_000
    assert usage.of_session(running=30 * 60_000_000)["list_cost"]["amount"] == "8"
    assert usage.of_session()["list_cost"]["amount"] == "4", "the next snapshot may have less"
