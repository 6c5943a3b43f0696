"""Requests that meet a turn which runs: queued, interrupting, interrupted, rejected, coalesced."""

from __future__ import annotations

from tests.builders import confirming, interrupting, turn
from tests.unit.agent_worker.outside import Outside
from tests.unit.agent_worker.plays.asking import calls
from tests.unit.agent_worker.plays.retries import BUSY


async def queued(outside: Outside) -> None:
    """The first body of a turn wins."""
    outside.sent = ["one", "two"]
    outside.ask(turn("t1", "one"), turn("t2", "two"), turn("t1", "one, in other words"))


async def rejected(outside: Outside) -> None:
    """One that would not wait is refused, one that comes later is not."""
    outside.sent = ["hold on", "now?"]
    outside.ask(turn("t1", "hold on"))
    await outside.said("user.message")
    outside.ask(turn("t2", "at once", 3, on_busy="reject"))
    await outside.said("turn.refused")
    outside.provider.sessions["sesn_1"].release()
    await outside.said("turn.completed")
    outside.ask(turn("t3", "now?", 60, on_busy="reject"))


async def interrupt(outside: Outside) -> None:
    """One turn is interrupted while it is worked on, the one behind it is not."""
    outside.ask(turn("t1", "hold on"), turn("t2", "and then"))
    await outside.said("user.message")
    outside.ask(interrupting(3))


async def interrupt_by_turn(outside: Outside) -> None:
    """A turn interrupts the one that runs and waits behind those that wait."""
    outside.ask(turn("t1", "hold on"), turn("t2", "and then"))
    await outside.said("user.message")
    outside.ask(turn("t3", "stop that", 3, on_busy="interrupt"))


async def interrupt_asking(outside: Outside) -> None:
    """One that waits for an answer is interrupted, and the answer comes too late."""
    outside.ask(turn("t1", "may I? [[script: confirm]]"))
    (call,) = await calls(outside)
    outside.ask(interrupting(3))
    await outside.said("turn.interrupted")
    outside.ask(confirming(call, 5), turn("t2", "never mind"))


async def interrupt_late(outside: Outside) -> None:
    """It comes when nothing runs: nothing happens, then or to the next turn."""
    outside.ask(turn("t1", "one"))
    await outside.said("turn.completed")
    outside.ask(interrupting(60))
    outside.ask(turn("t2", "two", 61))


async def interrupt_refused(outside: Outside) -> None:
    """It comes while the provider refuses the message: the turn ends without it."""
    outside.provider.refuses = BUSY
    outside.sent = ["next"]
    outside.ask(turn("t1", "try again"))
    await outside.said("turn.retrying")
    outside.ask(interrupting(3))
    await outside.said("turn.interrupted")
    outside.provider.refuses = None
    outside.ask(turn("t2", "next", 60))


async def coalesced(outside: Outside) -> None:
    """Three that go out together, and one behind them that does not."""
    outside.ask(
        *(turn(f"t{n}", f"part {n}", on_busy="coalesce") for n in (1, 2, 3)), turn("t4", "alone")
    )


async def coalesced_behind(outside: Outside) -> None:
    """Two that wait for a turn that runs go out together."""
    outside.ask(turn("t1", "hold on"))
    await outside.said("user.message")
    outside.ask(*(turn(f"t{n}", f"part {n}", 3, on_busy="coalesce") for n in (2, 3)))
    await outside.said("turn.accepted", count=3)
    outside.provider.sessions["sesn_1"].release()


async def coalesced_interrupted(outside: Outside) -> None:
    """Two that went out together are interrupted together."""
    outside.ask(turn("t1", "hold", on_busy="coalesce"), turn("t2", "on", on_busy="coalesce"))
    await outside.said("user.message")
    outside.ask(interrupting(3))


async def coalesced_again(outside: Outside) -> None:
    """Two that go out together are refused, exhausted, and lost with their session."""
    outside.provider.refusals.append(BUSY)
    outside.provider.fates.extend(["exhausted", "terminal"])
    parts, past = ["part 1", "part 2"], "(what was said in sesn_1)"
    outside.sent, outside.rotations = [*parts, *parts, past, *parts], 1
    outside.ask(*(turn(f"t{n}", f"part {n}", on_busy="coalesce") for n in (1, 2)))


PLAYS = (
    queued,
    rejected,
    interrupt,
    interrupt_by_turn,
    interrupt_asking,
    interrupt_late,
    interrupt_refused,
    coalesced,
    coalesced_behind,
    coalesced_interrupted,
    coalesced_again,
)
