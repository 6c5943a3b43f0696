"""The same seed breaks the same things at the same times, and does the same talking meanwhile."""

from __future__ import annotations

import msgspec
import pytest

from infra.simulator.directive import directive_in
from infra.simulator.faults.rules import decode_rules
from infra.simulator.play.scripts import COMMON_OPTIONS, OPTIONS, SCRIPTS
from tests.chaos.moves import move
from tests.chaos.schedule import PARTS, WORKER, Strike, schedule
from tests.chaos.troubles import TROUBLES

pytestmark = pytest.mark.unit


def test_a_schedule_is_a_function_of_its_arguments() -> None:
    assert schedule(7, 180, 2) == schedule(7, 180, 2)
    assert schedule(7, 180, 2) != schedule(8, 180, 2)


def test_a_longer_run_begins_like_a_shorter_one() -> None:
    short, long = schedule(3, 120, 2), schedule(3, 600, 2)
    assert long.strikes[: len(short.strikes)] == short.strikes
    assert long.troubles[: len(short.troubles)] == short.troubles


@pytest.mark.parametrize("seed", range(20))
def test_every_part_goes_down_and_nothing_outlasts_the_run(seed: int) -> None:
    plan = schedule(seed, 180, 2)
    kinds = {strike.part.removesuffix("-1").removesuffix("-2") for strike in plan.strikes}
    assert kinds == set(PARTS), "in three minutes each part is struck, and never the judge"
    times = [(strike.at, strike.seconds) for strike in plan.strikes]
    times += [(trouble.at, trouble.seconds) for trouble in plan.troubles]
    assert all(at > 0 and at + seconds < 180 for at, seconds in times)
    assert list(plan.strikes) == sorted(plan.strikes, key=lambda strike: strike.at)


def test_only_a_pause_lasts_and_longer_than_a_lease_at_times() -> None:
    strikes = [strike for seed in range(20) for strike in schedule(seed, 600, 2).strikes]
    pauses = [strike.seconds for strike in strikes if strike.kind == "pause"]
    assert 2 <= min(pauses) < 3 < max(pauses) <= 8
    assert all(strike.seconds == 0 for strike in strikes if strike.kind != "pause")
    assert {strike.kind for strike in strikes} == {"kill", "term", "pause"}
    assert {s.part for s in strikes if s.part.startswith(WORKER)} == {f"{WORKER}-1", f"{WORKER}-2"}


def test_a_strike_reads_as_what_it_is() -> None:
    assert str(Strike(1.0, "kafka", "kill")) == "kill kafka"
    assert str(Strike(1.0, "gateway", "pause", 2.5)) == "pause gateway for 2.5 s"


@pytest.mark.parametrize("name", TROUBLES)
def test_the_simulator_understands_every_trouble(name: str) -> None:
    assert decode_rules(msgspec.json.encode({"rules": TROUBLES[name]}))


def test_moves_repeat_and_their_texts_are_nobody_elses() -> None:
    moves = [move(5, session, n) for session in ("a", "b") for n in range(100)]
    assert moves == [move(5, session, n) for session in ("a", "b") for n in range(100)]
    texts = [said.text for one in moves for said in one.turns]
    assert len(set(texts)) == len(texts)
    assert len({one.kind for one in moves}) == 14


def test_the_simulator_knows_every_script() -> None:
    for number in range(200):
        for said in move(1, "s", number).turns:
            directive = directive_in(said.text)
            assert directive is not None
            assert directive.name in SCRIPTS
            known = COMMON_OPTIONS | OPTIONS.get(directive.name, frozenset())
            assert directive.options.keys() <= known


def test_only_the_parts_that_are_named_are_struck() -> None:
    plan = schedule(1, 180, 2, ("postgres",), troubled=False)
    assert {strike.part for strike in plan.strikes} == {"postgres"}
    assert plan.troubles == ()
