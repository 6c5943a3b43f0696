"""Times of publishers, of the provider and of ours: durations are by our own clocks, and never below zero."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from msgspec.structs import replace

from shared.session import Event
from shared.session.admission import received
from shared.session.events import Turn
from shared.session.inputs import Filed, Input, Seen
from tests.builders import Wire, archiving, at, bound, elapsed, failed, interrupting, seen, turn
from tests.unit.session.specification import history

pytestmark = pytest.mark.unit
HOURS = 3600.0


def came(filed: Filed, second: float) -> Filed:
    """The request as it was filed, had at that second by our clocks, and taken up at once."""
    return replace(filed, received_at=at(second), taken_at=at(second))


def heard(seen: Seen, second: float) -> Seen:
    """What the provider said, taken at that second by the worker's clock."""
    return replace(seen, at=at(second))


def turns(*inputs: Input) -> dict[str, tuple[Event, Turn]]:
    """The last event of each turn, and the turn as it says it stands."""
    own = (event for event in history(*inputs) if event.type.startswith("turn."))
    return {e.turn_id or "": (e, msgspec.json.decode(e.data, type=Turn)) for e in own}


@pytest.mark.parametrize("off", [9 * HOURS, -9 * HOURS], ids=["ahead", "behind"])
def test_a_publishers_clock_spoils_no_duration(off: float) -> None:
    reply = heard(seen(*Wire(second=2).reply()), 20)
    (accepted, *_), (_, ended) = (
        [e for e in history(came(turn(second=off), 1)) if e.type == "turn.accepted"],
        turns(came(turn(second=off), 1), bound(second=2), reply)["t1"],
    )
    assert accepted.at == at(off), "kept as said"
    assert (ended.submitted_at, ended.started_at, ended.ended_at) == (at(1), at(2), at(20))


@pytest.mark.parametrize("off", [HOURS, -HOURS], ids=["ahead", "behind"])
def test_the_providers_clock_spoils_no_duration(off: float) -> None:
    wire = Wire(second=3 + off)
    event, ended = turns(turn(second=1), bound(second=2), heard(seen(*wire.reply()), 20))["t1"]
    assert (event.at, ended.ended_at) == (at(20), at(20))
    assert ended.first_token_at == (at(20) if off > 0 else at(2)), "not outside of the turn"


def test_a_clock_that_is_set_back_in_mid_turn_gives_no_time_below_zero() -> None:
    wire = Wire(second=2)
    _, ended = turns(turn(second=60), bound(second=40), heard(seen(*wire.reply()), 10))["t1"]
    assert (ended.submitted_at, ended.started_at, ended.ended_at) == (at(60), at(60), at(60))


def test_what_ends_a_turn_from_outside_does_so_at_our_time() -> None:
    running = (came(turn(), 0), bound(second=1), came(turn("t2", on_busy="reject"), 2))
    refused = turns(*running)["t2"][1]
    assert (refused.submitted_at, refused.ended_at) == (at(2), at(2))
    waiting = (came(turn(second=HOURS), 0), failed(second=1, chance=0.9))
    event, ended = turns(*waiting, came(interrupting(9 * HOURS), 3))["t1"]
    assert (event.at, ended.ended_at) == (at(3), at(3))
    event, ended = turns(*waiting, came(archiving(9 * HOURS), 4))["t1"]
    assert (event.at, ended.ended_at) == (at(4), at(4))


MOMENTS = st.floats(-2 * HOURS, 2 * HOURS).map(lambda second: round(second, 3))


@for_all(st.lists(MOMENTS, min_size=8, max_size=8), st.booleans())
def test_times_of_a_turn_are_in_order_whatever_the_clocks_say(
    clocks: list[float], fails: bool
) -> None:
    said, had, taken, bound_at, provider, heard_at, failed_at, again = clocks
    asked = replace(turn(second=said), received_at=at(had), taken_at=at(taken))
    tries: tuple[Input, ...] = (asked, bound(second=bound_at))
    if fails:
        tries += (failed(second=failed_at), elapsed(max(failed_at, again) + 10_000))
    _, ended = turns(*tries, heard(seen(*Wire(second=provider).reply()), heard_at))["t1"]
    assert ended.status == "completed"
    times = (ended.submitted_at, ended.started_at, ended.first_token_at, ended.ended_at)
    assert list(times) == sorted(time or "" for time in times)


def test_the_gateways_word_counts_and_nobody_elses() -> None:
    request = turn(second=5).request
    assert received(request, at(7), by_gateway=True) == at(5)
    assert received(request, at(7), by_gateway=False) == at(7)
    assert received(turn(second=HOURS).request, at(7), by_gateway=True) == at(7), "no gateway's"
    assert received(request, "", by_gateway=False) == at(5)
