"""Any conversation, any crashes, any failures of provider, feed and database: the log is that of the quiet run, up
to what the troubles themselves added (`outcome.py` names it). And a worker that is broken is found out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.unit.agent_worker.any_play import (
    STEERING,
    Conversation,
    Troubles,
    conversations,
    played,
    steering,
    troubles,
)
from tests.unit.agent_worker.mutants import MUTANTS, broken

pytestmark = pytest.mark.unit
EXAMPLES = 250


def holds(conversation: Conversation, befalls: Troubles) -> None:
    """The law."""
    quiet = Troubles(tempo=befalls.tempo)
    assert played(conversation, befalls) == played(conversation, quiet)


def tried(*phases: Phase) -> Callable[[], None]:
    """The law, tried on conversations and troubles by chance, the same ones every time."""
    trying = settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    return trying(given(conversation=conversations, befalls=troubles)(holds))


def test_trouble_leaves_no_trace() -> None:
    tried(Phase.generate, Phase.shrink)()


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
@given(conversation=steering, befalls=troubles)
def test_whoever_is_faster_a_steering_message_is_sent_once(
    conversation: Conversation, befalls: Troubles
) -> None:
    """The laws of `outcome.py`: each message once, each event once, all turns ended, nothing left to do."""
    found = played(conversation, befalls)
    ended = [fact[1] for fact in found.facts if fact[0] == "turn.completed"]
    steered = [f"t{n}b" for n, one in enumerate(conversation.scripts, start=1) if one == STEERING]
    assert set(steered) <= set(ended)
    assert len(ended) == len(conversation.scripts) + len(steered)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_worker_leaves_a_trace(mutant: str) -> None:
    with broken(mutant), pytest.raises(AssertionError):
        tried(Phase.generate)()
