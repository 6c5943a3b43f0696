"""Attempts that come to nothing, and what becomes of their turns: refused, unknown, exhausted, silent, used up."""

from __future__ import annotations

from services.agent_worker.ports import ProviderFailure
from services.agent_worker.session.prompt import NUDGE
from tests.builders import interrupting, opening, raising, turn
from tests.fakes.provider import past_of
from tests.unit.agent_worker.outside import Outside

BUSY = ProviderFailure("overloaded_error", "529: busy")
UNKNOWN = ProviderFailure("provider_unreachable", "no answer, and no list")


async def overloaded(outside: Outside) -> None:
    """Sends are refused twice."""
    outside.provider.refusals.extend([BUSY, BUSY])
    outside.ask(turn("t1", "try again"))


async def given_up(outside: Outside) -> None:
    """Every send is refused."""
    outside.provider.refuses = BUSY
    outside.sent = []
    outside.ask(turn("t1", "try again"))
    await outside.said("turn.failed")


async def refused_for_good(outside: Outside) -> None:
    """The first turn is wrong for good, the one behind it is not."""
    wrong = ProviderFailure("invalid_request_error", "400: no", final=True)
    outside.provider.refuses = wrong
    outside.sent = ["right"]
    outside.ask(turn("t1", "wrong"))
    await outside.said("turn.failed")
    outside.provider.refuses = None
    outside.ask(turn("t2", "right", 60))


async def ambiguous(outside: Outside) -> None:
    """A message lands, its answer is lost, and it can't be looked for."""
    outside.provider.lost_answers.append(UNKNOWN)
    outside.ask(turn("t1", "once"), turn("t2", "and once more"))


async def looked_up(outside: Outside) -> None:
    """A message lands, its answer is lost, and it is found."""
    outside.provider.lost_answers.append(None)
    outside.ask(turn("t1", "once"))


async def orphan(outside: Outside) -> None:
    """A session is made, nobody hears of it, and the next attempt adopts it."""
    outside.provider.lost_openings.append(UNKNOWN)
    outside.ask(turn("t1", "is anybody there?"))


async def exhausted(outside: Outside) -> None:
    """The provider gives up and says so in an error: sent again."""
    outside.provider.fates.append("exhausted")
    outside.sent = ["and again", "and again", "then this"]
    outside.ask(turn("t1", "and again"), turn("t2", "then this"))


async def retries_exhausted(outside: Outside) -> None:
    """The same, twice, said by the idle alone."""
    outside.provider.fates.extend(["retries_exhausted"] * 2)
    outside.sent = ["and again"] * 3
    outside.ask(turn("t1", "and again"))


async def stalled(outside: Outside) -> None:
    """The agent says nothing: interrupted, and told to go on."""
    outside.sent = ["hold on", NUDGE]
    outside.ask(turn("t1", "hold on"))
    await outside.said("turn.completed")


async def budget_raised(outside: Outside) -> None:
    """The session's budget is used up, and raised: the same turn goes on, and nothing is sent twice."""
    outside.provider.fates.append("budget")
    outside.ask(opening(budget_usd=0.5), turn("t1", "spend it"), turn("t2", "and now?"))
    await outside.said("turn.requires_action")
    outside.ask(raising(0.75, 5))


async def budget_raised_late(outside: Outside) -> None:
    """The session was let go of meanwhile, and is asked in vain for less first."""
    outside.provider.fates.append("budget")
    outside.ask(opening(budget_usd=0.5), turn("t1", "spend it"))
    await outside.said("turn.requires_action")
    await outside.until(lambda: outside.settled, "a rest")
    outside.ask(raising(0.25, 5))
    await outside.said("session.answer_refused")
    outside.ask(raising(0.75, 6))


async def budget_interrupted(outside: Outside) -> None:
    """What waits for the budget is interrupted: the next turn must not set it going again."""
    outside.provider.fates.append("budget")
    outside.sent, outside.rotations = ["spend it", past_of("sesn_1"), "and now?"], 1
    outside.ask(opening(budget_usd=0.5), turn("t1", "spend it"))
    await outside.said("turn.requires_action")
    outside.ask(interrupting(5), turn("t2", "and now?", 6))


async def budget_not_raised(outside: Outside) -> None:
    """Nobody raises it in time."""
    outside.provider.fates.append("budget")
    outside.ask(opening(budget_usd=0.5), turn("t1", "spend it"))
    await outside.said("turn.failed")


async def unheard_of(outside: Outside) -> None:
    """A stop reason that we do not know."""
    outside.provider.fates.append("unheard_of")
    outside.ask(turn("t1", "what is this?"))


PLAYS = (
    overloaded,
    given_up,
    refused_for_good,
    ambiguous,
    looked_up,
    orphan,
    exhausted,
    retries_exhausted,
    stalled,
    budget_raised,
    budget_raised_late,
    budget_interrupted,
    budget_not_raised,
    unheard_of,
)
