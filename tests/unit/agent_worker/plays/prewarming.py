"""Sessions whose provider session is made before any turn."""

from __future__ import annotations

from tests.builders import archiving, opening, turn
from tests.unit.agent_worker.outside import Outside


async def prewarmed(outside: Outside) -> None:
    """A turn comes in time."""
    outside.ask(opening(prewarm=True))
    await outside.said("session.prewarmed")
    outside.ask(turn("t1", "go", 1))
    await outside.said("turn.completed")


async def met(outside: Outside) -> None:
    """It comes while the provider session is being made."""
    outside.ask(opening(prewarm=True), turn("t1", "go"), turn("t2", "and on"))
    await outside.said("turn.completed", count=2)


async def left(outside: Outside) -> None:
    """None comes."""
    outside.ask(opening(prewarm=True))
    await outside.said("session.archived")


async def missed(outside: Outside) -> None:
    """It comes when the provider session was given back."""
    outside.rotations = 1
    outside.ask(opening(prewarm=True))
    await outside.said("session.archived")
    await outside.until(lambda: outside.settled, "a rest")
    outside.ask(turn("t1", "go", 400))
    await outside.said("turn.completed")


async def closed_unused(outside: Outside) -> None:
    outside.ask(opening(prewarm=True))
    await outside.said("session.prewarmed")
    outside.ask(archiving(1))
    await outside.said("session.archived")


PLAYS = (prewarmed, met, left, missed, closed_unused)
