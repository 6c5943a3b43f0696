"""Plays of clients and provider for the crash tests: a play asks, waits for what the log says, and asks again.

Every play ends the same whatever dies meanwhile, so it may hang on nothing that only a dead process knew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.unit.agent_worker.outside import (
    BRISK,
    RESTING,
    STEADY,
    TWO_HOURS,
    WEARING,
    Outside,
    Pace,
)
from tests.unit.agent_worker.plays import (
    capped,
    closing,
    connecting,
    conversations,
    outcomes,
    people,
    prewarming,
    resting,
    retries,
    rotation,
    steering,
    texting,
)

Play = Callable[[Outside], Awaitable[None]]
PLAYS: dict[str, Play] = {
    play.__name__: play
    for part in (
        *(conversations, outcomes, people, retries, rotation, texting, closing, resting, capped),
        *(prewarming, steering, connecting),
    )
    for play in part.PLAYS
}
PACES: dict[Play, Pace] = {
    **dict.fromkeys(
        (*people.UNANSWERED, retries.budget_not_raised, connecting.never_connected), TWO_HOURS
    ),
    **dict.fromkeys(
        (retries.given_up, retries.stalled, outcomes.outcome_stalled, rotation.silent_for_good),
        STEADY,
    ),
    **dict.fromkeys((*resting.PLAYS, *prewarming.PLAYS), RESTING),
    resting.worn: WEARING,
}


def pace(play: str) -> Pace:
    """How fast leases run out and how often is looked in it."""
    return PACES.get(PLAYS[play], BRISK)
