"""Sessions that are archived: at rest, in the middle of a turn, with turns that wait, and twice."""

from __future__ import annotations

from tests.builders import archiving, turn
from tests.unit.agent_worker.outside import Outside


async def archive(outside: Outside) -> None:
    outside.ask(turn("t1", "last words"))
    await outside.said("turn.completed")
    outside.ask(archiving(9))


async def archive_running(outside: Outside) -> None:
    """The turn that runs is interrupted, the one that waits is refused, and so is one that comes after."""
    outside.sent = ["hold on"]
    outside.ask(turn("t1", "hold on"), turn("t2", "and then"))
    await outside.said("user.message")
    outside.ask(archiving(9))
    await outside.said("turn.interrupted")
    outside.ask(turn("t3", "hello?", 60))


async def archive_twice(outside: Outside) -> None:
    outside.ask(turn("t1", "last words"))
    await outside.said("turn.completed")
    outside.ask(archiving(9), archiving(10))


PLAYS = (archive, archive_running, archive_twice)
