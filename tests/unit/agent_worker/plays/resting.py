"""Sessions that no turn keeps busy, and the turn that comes after all."""

from __future__ import annotations

from tests.builders import archiving, opening, turn
from tests.fakes.provider import past_of
from tests.unit.agent_worker.outside import Outside

PAST = past_of("sesn_1")


async def dormant(outside: Outside) -> None:
    """No turn comes any more."""
    outside.ask(turn("t1", "go"))
    await outside.said("session.archived")


async def resumed(outside: Outside) -> None:
    """One comes long afterwards."""
    outside.sent, outside.rotations = ["go", PAST, "and on"], 1
    outside.ask(turn("t1", "go"))
    await outside.said("session.archived")
    await outside.until(lambda: outside.settled, "a rest")
    outside.ask(turn("t2", "and on", 60))
    await outside.said("session.archived", count=2)


async def resumed_at_once(outside: Outside) -> None:
    """One comes while the provider session is being closed."""
    outside.sent, outside.rotations = ["go", PAST, "and on"], 1
    outside.ask(turn("t1", "go"))
    await outside.said("session.archived")
    outside.ask(turn("t2", "and on", 60))
    await outside.said("session.archived", count=2)


async def closed_for_good(outside: Outside) -> None:
    outside.ask(turn("t1", "go"))
    await outside.said("session.archived")
    outside.ask(archiving(60))
    await outside.said("session.archived", count=2)


async def done(outside: Outside) -> None:
    """A background session has its result."""
    outside.ask(opening(mode="background"), turn("t1", "go"))
    await outside.said("session.archived")


async def worn(outside: Outside) -> None:
    """Every turn gets a provider session of its own."""
    outside.sent, outside.rotations = ["go", PAST, "and on"], 1
    outside.ask(turn("t1", "go"))
    await outside.said("session.idled")
    outside.ask(turn("t2", "and on", 60))
    await outside.said("session.idled", count=2)


PLAYS = (dormant, resumed, resumed_at_once, closed_for_good, done, worn)
