"""The laws: what must hold in every state, and how a run without further faults must end."""

from __future__ import annotations

from tests.unit.model.rules import World
from tests.unit.model.things import NOBODY, Broken, Numbered, State


def log_agrees(state: State, record: Numbered) -> State:
    """The state after `record` got into the log. Raises Broken unless the log without its repeats is the beginning
    of what the row says was written."""
    seq, body = record
    written = state.row.book.history
    if seq > state.log + 1:
        raise Broken(f"a gap: seq {seq} was said while the log ends at {state.log}")
    if seq > len(written):
        raise Broken(f"said and not written: seq {seq}")
    if written[seq - 1] != body:
        raise Broken(f"two bodies for seq {seq}: said {body}, written {written[seq - 1]}")
    return state.but(log=max(state.log, seq))


def written_agrees(before: State, after: State) -> State:
    """`after`, whose row was written. Raises Broken when what was said already is not in it any more."""
    said = before.row.book.history[: before.log]
    if after.row.book.history[: before.log] != said:
        raise Broken("two bodies for a seq: the row forgot what was said")
    return after


def lands(state: State, turn: int, excuse: str) -> State:
    """The state after a message landed. Raises Broken when it is one too many, or older than one before it, and
    nothing excuses any of its turn."""
    excuses = state.excuses
    if excuse:
        excuses = tuple(sorted({*excuses, (turn, excuse)}))
    there = (*state.messages, *state.queued)
    if turn in there and not any(known == turn for known, _ in excuses):
        raise Broken(f"the message of turn {turn} was put to the provider twice")
    if turn < max(there, default=0) and not any(known == turn for known, _ in excuses):
        raise Broken(f"turn {turn} reached the provider behind turn {max(there)}")
    return state.but(excuses=excuses)


def stops(state: State, turn: int, excuse: str) -> State:
    """The state after an interrupt of `turn` landed. Raises Broken when it stops another turn and nothing excuses
    that."""
    running = state.messages[-1] if state.messages else 0
    if not running:
        return state
    if excuse:
        state = state.but(excuses=tuple(sorted({*state.excuses, (running, excuse)})))
    elif turn not in _at_work(state) and not any(known == running for known, _ in state.excuses):
        raise Broken(f"an interrupt of turn {turn} stopped turn {running}")
    return state.but(messages=(*state.messages, 0))


def _at_work(state: State) -> tuple[int, ...]:
    """The turns whose messages the agent has taken up since it was idle."""
    idles = [place for place, message in enumerate(state.messages) if not message]
    return state.messages[idles[-1] + 1 if idles else 0 :]


def well_ended(state: State, world: World) -> None:
    """Raises Broken when a state in which nothing is left to happen is not the end of all turns."""
    row, book = state.row, state.row.book
    if (state.offset, state.inbox) != (world.turns, world.turns):
        raise Broken("an input was lost before the inbox")
    if (book.ended, book.phase) != (world.turns, "idle"):
        raise Broken(f"stuck: {book.ended} of {world.turns} turns ended, the next is {book.phase}")
    if state.log != len(book.history):
        raise Broken(f"events were lost: {len(book.history)} written, {state.log} said")
    if state.row.lease != NOBODY or row.unsaid or row.todo:
        raise Broken("the session was never let go of")
    told = [body[:2] for body in book.history]
    for turn in range(1, world.turns + 1):
        if turn not in state.messages and ("interrupted", turn) not in told:
            raise Broken(f"turn {turn} ended without its message at the provider")
        ends = told.count(("completed", turn)) + told.count(("interrupted", turn))
        if ends != 1:
            raise Broken(f"turn {turn} ended {ends} times")
    if not state.excuses and book.heard != len(state.messages):
        raise Broken("an event of the provider was not recorded")
