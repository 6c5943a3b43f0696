"""Turns that may be coalesced: one message, and an end for each of them."""

from __future__ import annotations

import msgspec
import pytest

from shared.session.commands import Open, Send
from shared.session.events import TURN_ENDS, Event, Turn
from shared.session.inputs import Filed
from shared.session.policy import Policy
from tests.builders import Wire, archiving, at, bound, elapsed, interrupting, seen, turn
from tests.unit.session.specification import after, given

pytestmark = pytest.mark.unit


def part(n: int, second: float = 0.0) -> Filed:
    return turn(f"t{n}", f"part {n}", second, on_busy="coalesce")


def ends(events: tuple[Event, ...]) -> dict[str, Turn]:
    found = [msgspec.json.decode(e.data, type=Turn) for e in events if e.type in TURN_ENDS]
    return {turn.turn_id: turn for turn in found}


def test_a_turn_that_may_be_coalesced_waits_a_moment_for_company() -> None:
    accepted = given().when(part(1))
    accepted.then("session.opened", "turn.accepted").saying("turn.accepted", gathers_until=at(0.3))
    assert accepted.state.due_at == at(0.3)


def test_the_moment_is_the_workers_and_not_the_publishers() -> None:
    early = msgspec.structs.replace(part(1, second=5000), taken_at=at(7))
    assert given().when(early).state.due_at == at(7.3)


def test_without_a_window_a_turn_goes_out_at_once() -> None:
    begun = given().when(part(1), Policy(coalesce_for=0))
    begun.then("session.opened", "turn.accepted", commands=(Open(turn_id="t1"),))


def test_turns_within_the_window_go_out_in_one_message() -> None:
    gathered = after(part(1), part(2, 0.1), part(3, 0.2))
    assert gathered.state.queue == ()
    gathered.when(elapsed(0.2)).then()
    gathered.when(elapsed(0.3)).then(commands=(Open(turn_id="t1"),))
    sent = after(part(1), part(2, 0.1), part(3, 0.2), elapsed(0.3)).when(bound())
    send = Send(
        turn_id="t1",
        input_id="turn:t1",
        attempt=1,
        look=False,
        riders=("turn:t2", "turn:t3"),
    )
    sent.then("turn.started", "turn.started", "turn.started", commands=(send,))
    joined = [msgspec.json.decode(event.data)["joined"] for event in sent.events]
    assert joined == [None, "t1", "t1"]


def test_every_coalesced_turn_ends_and_only_one_of_them_costs() -> None:
    wire = Wire()
    running = after(part(1), part(2, 0.1), elapsed(0.3), bound())
    ended = running.when(seen(*wire.reply("part 2", "both")))
    found = ends(ended.events)
    assert {id: (t.status, t.reply) for id, t in found.items()} == {
        "t1": ("completed", "both"),
        "t2": ("completed", "both"),
    }
    assert (found["t1"].cost_usd, found["t2"].cost_usd) == (0.03, 0.0)
    assert (found["t1"].usage.output_tokens, found["t2"].usage.output_tokens) == (5, 0)


def test_turns_that_waited_behind_another_go_out_together_after_it() -> None:
    waiting = after(turn("t0", "hello"), bound(), part(1), part(2), turn("t3", "alone"))
    idle = waiting.when(seen(*Wire().reply()))
    (send,) = idle.decision.commands
    assert isinstance(send, Send)
    assert (send.turn_id, send.riders) == ("t1", ("turn:t2",))
    assert [queued.turn.turn_id for queued in idle.state.queue] == ["t3"]


def test_a_turn_of_another_kind_does_not_join_and_is_not_overtaken() -> None:
    gathered = after(part(1), turn("t2", "alone", 0.1), part(3, 0.2))
    assert gathered.state.riders == ()
    assert [queued.turn.turn_id for queued in gathered.state.queue] == ["t2", "t3"]


def test_an_interrupt_ends_all_gathering_turns_unsent() -> None:
    stopped = after(part(1), part(2)).when(interrupting(0.1))
    assert {t.turn_id: t.status for t in ends(stopped.events).values()} == {
        "t1": "interrupted",
        "t2": "interrupted",
    }
    assert stopped.decision.commands == ()


def test_an_archive_ends_all_gathering_turns() -> None:
    closed = after(part(1), part(2)).when(archiving(0.1))
    assert set(ends(closed.events)) == {"t1", "t2"}
    assert closed.state.status == "archived"


def test_what_the_provider_says_while_turns_gather_is_no_part_of_them() -> None:
    late = after(turn("t0", "hello"), bound(), seen(*Wire().reply()), part(1, 20)).when(
        seen(*Wire("late", 20).reply("what somebody else said"))
    )
    assert ends(late.events) == {}
    assert {event.turn_id for event in late.events[:1]} == {None}
