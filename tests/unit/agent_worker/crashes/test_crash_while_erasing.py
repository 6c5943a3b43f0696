"""A session is erased in whatever state it is, and a worker dies at every side effect of that: the next one goes
on, and in the end nothing of it is left but ids.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache, partial

import msgspec
import pytest

from services.agent_worker.ports import ProviderFailure
from shared.bus import topics
from shared.session.events import read_event
from shared.session.state import SessionState
from tests.builders import answering, archiving, erasing, interrupting, opening, turn
from tests.unit.agent_worker import virtual_time
from tests.unit.agent_worker.effects import Halt, When
from tests.unit.agent_worker.outside import Outside
from tests.unit.agent_worker.runs import relay
from tests.unit.agent_worker.worker import Worker, know_tasks

pytestmark = pytest.mark.unit

SECRET = "the word nobody may find"
# From the request to the end, in virtual seconds, deaths included: at most twice the wait for an interrupt and the
# tries to close, a lease and a poll.
BOUND_SECONDS = 80.0


async def at_rest(outside: Outside) -> None:
    outside.ask(opening(title=SECRET, metadata={"note": SECRET}), turn("t1", SECRET))
    await outside.said("turn.completed")
    outside.ask(erasing(9))


async def never_used(outside: Outside) -> None:
    outside.ask(opening(title=SECRET))
    await outside.said("session.opened")
    outside.ask(erasing(9))


async def prewarmed(outside: Outside) -> None:
    """Its provider session waits for a turn."""
    outside.ask(opening(title=SECRET, prewarm=True))
    await outside.said("session.prewarmed")
    outside.ask(erasing(9))


async def being_prewarmed(outside: Outside) -> None:
    """And with a turn that waits for it."""
    outside.ask(opening(title=SECRET, prewarm=True), turn("t1", SECRET), erasing(9))


async def archived(outside: Outside) -> None:
    outside.ask(turn("t1", SECRET))
    await outside.said("turn.completed")
    outside.ask(archiving(9))
    await outside.said("session.archived")
    outside.ask(erasing(10))


async def running(outside: Outside) -> None:
    """And a turn that waits."""
    outside.ask(turn("t1", f"hold on {SECRET} [[script: hold]]"), turn("t2", SECRET))
    await outside.said("user.message")
    outside.ask(erasing(9))


async def deaf(outside: Outside) -> None:
    """The agent does not even heed its interrupt: the provider deletes it when somebody has ended it there."""
    outside.provider.fates.append("deaf")
    outside.ask(turn("t1", SECRET))
    await outside.said("user.message")
    outside.ask(erasing(9))
    asked = outside.clock()
    (row,) = outside.store.rows.values()
    await outside.until(lambda: row.head.state.given_up != (), "all but the provider's part")
    assert (outside.clock() - asked).total_seconds() < BOUND_SECONDS
    assert SECRET not in repr(row.head)
    assert not any(outside.store.inbox.values())
    outside.provider.sessions["sesn_1"].vanish()


async def parked(outside: Outside) -> None:
    """A turn that waits for people."""
    outside.ask(turn("t1", f"{SECRET} [[script: confirm]]"))
    await outside.said("turn.requires_action")
    outside.ask(erasing(9))


async def backing_off(outside: Outside) -> None:
    outside.provider.refuses = ProviderFailure("overloaded_error", "busy", retry_after=600.0)
    outside.ask(turn("t1", SECRET))
    await outside.said("turn.retrying")
    outside.ask(erasing(9))


async def at_once(outside: Outside) -> None:
    """Asked for while the first provider session is being made."""
    outside.ask(turn("t1", SECRET), erasing(1))


async def rotated(outside: Outside) -> None:
    outside.provider.fates.append("terminal")
    outside.ask(turn("t1", SECRET))
    await outside.said("turn.completed")
    outside.ask(erasing(9))


async def spoken_to_afterwards(outside: Outside) -> None:
    """What comes later is told that it is too late, and forgotten again."""
    outside.ask(turn("t1", SECRET))
    await outside.said("turn.completed")
    outside.ask(erasing(9))
    await outside.said("session.erased")
    outside.ask(turn("t2", SECRET, 60), interrupting(61), archiving(62), erasing(63))
    outside.ask(answering("sevt_x", 64, SECRET))
    await outside.said("turn.refused")


PLAYS: dict[str, Callable[[Outside], Awaitable[None]]] = {
    play.__name__: play
    for play in (
        at_rest,
        never_used,
        prewarmed,
        being_prewarmed,
        archived,
        running,
        deaf,
        parked,
        backing_off,
        at_once,
        rotated,
        spoken_to_afterwards,
    )
}


def erased(play: str, *halts: Halt) -> tuple[str, ...]:
    """Play it; a worker dies at each halt. Answers the effects of the last one."""

    async def main() -> tuple[str, ...]:
        know_tasks()
        outside = Outside()
        client = asyncio.create_task(_to_the_end(outside, play))
        makers = [
            partial(Worker, outside, f"worker-{n}", halt=halt)
            for n, halt in enumerate((*halts, None))
        ]
        workers = await relay(client, makers)
        nothing_is_left(outside)
        return tuple(workers[-1].effects.done)

    return virtual_time.run(main())


async def _to_the_end(outside: Outside, play: str) -> None:
    await PLAYS[play](outside)
    asked = outside.clock()
    await outside.until(lambda: outside.settled, f"the end of {play}")
    assert (outside.clock() - asked).total_seconds() < BOUND_SECONDS


def nothing_is_left(outside: Outside) -> None:
    """But ids: in the row, the inbox, at the provider, and in what was said after the erasure."""
    (row,) = outside.store.rows.values()
    state = row.head.state
    ids = SessionState(tenant_id=state.tenant_id, session_id=state.session_id)
    kept = {"user_id", "status", "last_seq", "opened_at"}
    changed = {n for n in ids.__struct_fields__ if getattr(state, n) != getattr(ids, n)}
    assert changed <= kept, changed - kept
    assert state.status == "erased"
    assert (row.head.unsaid, row.head.todo, row.owner) == ((), (), None)
    assert all(not inbox for inbox in outside.store.inbox.values())
    assert SECRET.encode() not in msgspec.json.encode(state)
    assert [s.id for s in outside.provider.sessions.values() if not s.erased] == []
    said = [read_event(s.value) for s in outside.publisher.records if s.topic == topics.EVENTS.name]
    seqs = {event.seq for event in said}
    assert seqs == set(range(1, state.last_seq + 1))
    end = next(event.seq for event in said if event.type == "session.erased")
    assert not [e for e in said if e.seq > end and e.type in ("turn.started", "turn.completed")]
    ended = {e.turn_id for e in said if e.type in ENDS}
    assert {e.turn_id for e in said if e.type == "turn.accepted"} <= ended
    assert not [s for s in outside.publisher.records if s.topic == topics.DEAD.name]


ENDS = ("turn.completed", "turn.interrupted", "turn.refused", "turn.failed")


@cache
def quiet(play: str) -> tuple[str, ...]:
    return erased(play)


@pytest.mark.parametrize("play", PLAYS)
def test_without_a_crash_the_session_is_erased(play: str) -> None:
    assert quiet(play)[-1] in ("erase", "commit", "file", "extend")


@pytest.mark.parametrize(
    ("play", "k", "when"),
    [
        pytest.param(play, k, when, id=f"{play}-{k:02d}-{name}-{when}")
        for play in PLAYS
        for k, name in enumerate(quiet(play), start=1)
        if name != "extend"  # most of a long wait, and nothing of the erasure
        for when in ("before", "after")
    ],
)
def test_a_crash_anywhere_in_an_erasure_leaves_nothing(play: str, k: int, when: When) -> None:
    erased(play, Halt(k, when))


@pytest.mark.parametrize("play", ["running", "parked", "rotated"])
def test_two_crashes_anywhere_in_an_erasure_leave_nothing(play: str) -> None:
    for k in range(1, len(quiet(play)) + 1, 3):
        for second in range(1, 12, 2):
            erased(play, Halt(k, "after"), Halt(second, "after"))
