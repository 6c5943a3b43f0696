"""What holds for every history, sensible or not."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from msgspec.structs import replace

from shared.session import Event, Input, decide, fold, initial
from shared.session.commands import Send
from shared.session.commands import decode as decode_commands
from shared.session.commands import encode as encode_commands
from shared.session.events import OWN_TYPES, TurnStatus
from shared.session.evolve import evolve
from shared.session.inputs import Filed, Seen
from shared.session.policy import DEFAULT, Policy
from shared.session.state import SessionState, decode, encode
from shared.session.transitions import TRANSITIONS, IllegalTransition
from shared.session.transitions import after as status_after
from tests.builders import SESSION, TENANT, Wire, seen, turn
from tests.unit.session.histories import NAMED, RUNNING, random_histories
from tests.unit.session.specification import after, given, history

pytestmark = pytest.mark.unit

KINDS = (*sorted(OWN_TYPES), "session.status_running")
STATUSES: tuple[TurnStatus | None, ...] = (
    None,
    "accepted",
    "running",
    "requires_action",
    "completed",
    "interrupted",
    "refused",
    "failed",
)


@for_all(random_histories())
@settings(deadline=None, max_examples=200)
def test_any_history_is_decided_folded_and_kept(inputs: tuple[Input, ...]) -> None:
    state, events = initial(TENANT, SESSION), list[Event]()
    for input in inputs:
        decision = decide(state, input)
        state, events = decision.state, [*events, *decision.events]
        assert decode_commands(encode_commands(decision.commands)) == decision.commands
        assert decode(encode(state)) == state
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert len({event.event_id for event in events}) == len(events)
    assert fold(events, initial(TENANT, SESSION)) == state
    again = [msgspec.json.decode(msgspec.json.encode(event), type=Event) for event in events]
    assert fold(again, initial(TENANT, SESSION)) == state


@for_all(random_histories(), st.data())
@settings(deadline=None, max_examples=100)
def test_any_prefix_folds_and_the_rest_goes_on_from_it(
    inputs: tuple[Input, ...], data: st.DataObject
) -> None:
    """A replay may stop anywhere, in the middle of what one decision said, and go on from the row it kept."""
    events = history(*inputs)
    cut = data.draw(st.integers(0, len(events)))
    prefix = fold(events[:cut], initial(TENANT, SESSION))
    assert prefix.last_seq == cut
    assert decode(encode(prefix)) == prefix
    assert fold(events[cut:], decode(encode(prefix))) == fold(events, initial(TENANT, SESSION))


@for_all(random_histories(), random_histories())
@settings(deadline=None, max_examples=60)
def test_a_session_can_be_gone_on_with_wherever_it_was_left(
    before: tuple[Input, ...], after_it: tuple[Input, ...]
) -> None:
    """What is decided depends on the folded past alone: whoever goes on, from the row or the log, says the same."""
    past = history(*before)
    by_row = by_log = fold(past, initial(TENANT, SESSION))
    filed = {input.input_id for input in before if isinstance(input, Filed)}
    for input in after_it:
        if isinstance(input, Filed) and input.input_id in filed:
            continue  # the inbox has each input once
        one, other = decide(decode(encode(by_row)), input), decide(by_log, input)
        assert (one.events, one.commands) == (other.events, other.commands)
        by_row, by_log = one.state, fold(other.events, by_log)


@for_all(random_histories())
@settings(deadline=None, max_examples=50)
def test_the_same_input_gives_the_same_bytes(inputs: tuple[Input, ...]) -> None:
    assert said(inputs) == said(inputs)


def said(inputs: tuple[Input, ...]) -> list[bytes]:
    """Every event and command of a history as bytes; each state goes through its row on the way."""
    state, written = initial(TENANT, SESSION), list[bytes]()
    for input in inputs:
        decision = decide(decode(encode(state)), input)
        state = decision.state
        written += [msgspec.json.encode(event) for event in decision.events]
        written.append(encode_commands(decision.commands))
    return written


@for_all(random_histories())
@settings(deadline=None, max_examples=100)
def test_every_turn_ends_at_most_once_and_never_before_it_began(inputs: tuple[Input, ...]) -> None:
    life: dict[str, TurnStatus | None] = {}
    for event in history(*inputs):
        if event.type.startswith("turn.") and event.turn_id is not None:
            status = msgspec.json.decode(event.data)["status"]
            assert event.type == "turn.accepted" or event.turn_id in life or status == "refused"
            assert life.get(event.turn_id) not in ("completed", "interrupted", "failed")
            life[event.turn_id] = status


@for_all(random_histories())
@settings(deadline=None, max_examples=300)
def test_turns_go_to_the_agent_in_the_order_in_which_they_were_accepted(
    inputs: tuple[Input, ...],
) -> None:
    state, accepted, sent = initial(TENANT, SESSION), list[str](), list[str]()
    for input in inputs:
        decision = decide(state, input)
        state = decision.state
        accepted += [str(e.turn_id) for e in decision.events if e.type == "turn.accepted"]
        for command in decision.commands:
            if isinstance(command, Send):
                sent += [command.turn_id, *(id.removeprefix("turn:") for id in command.riders)]
    first_sent = list(dict.fromkeys(sent))
    assert first_sent == sorted(first_sent, key=accepted.index)


@for_all(random_histories())
@settings(deadline=None, max_examples=100)
def test_an_event_seen_again_records_nothing_new(inputs: tuple[Input, ...]) -> None:
    """The newest events of the provider, given once more, are known."""
    session = after(*inputs) if inputs else given()
    wire = Wire("fresh", second=20_000)
    news = seen(wire.event("agent.thinking"), wire.event("a.b", thread="sthr_1"))
    once = session.when(news)
    given_again = decide(once.state, news)
    assert (given_again.events, given_again.commands) == ((), ())
    assert given_again.state == once.state


@pytest.mark.parametrize("name", NAMED)
def test_repeats_of_a_whole_reading_change_nothing(name: str) -> None:
    session = after(*NAMED[name])
    for input in NAMED[name]:
        if isinstance(input, Seen) and session.state.provider_session_id == "sesn_1":
            session.when(input).then()


def test_the_table_of_transitions_is_what_happens() -> None:
    roads: dict[tuple[TurnStatus | None, str], str] = {}
    for policy in (DEFAULT, Policy(capped=True)):
        for name, inputs in NAMED.items():
            for pair in pairs(history(*inputs, policy=policy)):
                roads.setdefault(pair, name)
    assert TRANSITIONS.keys() - roads.keys() == set(), "nothing shows these"
    assert roads.keys() - TRANSITIONS.keys() == set(), "the table does not know these"


def pairs(events: tuple[Event, ...]) -> list[tuple[TurnStatus | None, str]]:
    """(status of the turn before, event) for each event that moves a turn, checked against the table."""
    state, found = initial(TENANT, SESSION), list[tuple[TurnStatus | None, str]]()
    for event in events:
        before, state = state, evolve(state, event)
        old, new = status_of(before, event.turn_id), status_of(state, event.turn_id)
        resumed = event.type == "session.status_running" and old != new
        if event.turn_id is not None and (event.type.startswith("turn.") or resumed):
            found.append((old, event.type))
            assert new in (TRANSITIONS[old, event.type], None), "folded to another status"
    return found


def status_of(state: SessionState, turn_id: str | None) -> TurnStatus | None:
    waiting = [queued.turn for queued in (*state.queue, *state.riders)]
    turns = waiting + ([state.turn] if state.turn else [])
    return next((turn.status for turn in turns if turn.turn_id == turn_id), None)


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_pair_outside_the_table_is_refused(status: TurnStatus | None, kind: str) -> None:
    if (status, kind) in TRANSITIONS:
        assert status_after(status, kind) == TRANSITIONS[status, kind]
    else:
        with pytest.raises(IllegalTransition, match=kind):
            status_after(status, kind)


def test_the_state_stays_small_however_long_the_session() -> None:
    """A hundred thousand events, child threads among them, in one session."""
    wire, sizes = Wire(), list[int]()
    state = decided(initial(TENANT, SESSION), *RUNNING)
    talk, work = wire.message("word"), wire.spent(1, 1)
    for n in range(1, 2_501):
        said = [replace(talk, id=f"m{n:05}-{i}", thread_id=f"sthr_{i % 4}") for i in range(20)]
        done = [replace(work, id=f"w{n:05}-{i}") for i in range(16)]
        events = (wire.prompt(), *said, *done, wire.cost(n), wire.idle())
        state = decided(state, seen(*events), turn(f"t{n + 1}"))
        sizes.append(len(encode(state)))
    assert state.last_seq > 100_000
    assert max(sizes) < 8 * 1024
    assert sizes[-1] < sizes[250] + 512, "it grows with the number of events"


def decided(state: SessionState, *inputs: Input) -> SessionState:
    for input in inputs:
        state = decide(state, input).state
    return state
