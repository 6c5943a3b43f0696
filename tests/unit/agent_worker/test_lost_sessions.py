"""A provider session is given up only once all it said is recorded: its end may be met by a send while what it said
is still on its way."""

from __future__ import annotations

import pytest

from tests.unit.agent_worker.any_play import Conversation, Troubles, played

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("scripts", [("terminal",), ("plain", "terminal"), ("terminal", "tools")])
@pytest.mark.parametrize("slow", [0.1, 0.7, 3.0])
@pytest.mark.parametrize("fails", [(), ("send",), ("next",), ("watch",)])
def test_a_session_that_ends_unheard_is_recorded_and_its_turn_goes_on(
    scripts: tuple[str, ...], slow: float, fails: tuple[str, ...]
) -> None:
    conversation = Conversation(scripts, None)
    quiet = played(conversation, Troubles())
    for unanswered in range(3):
        troubles = Troubles(slow=(("next", slow),), unanswered=unanswered, fails=fails)
        assert played(conversation, troubles) == quiet
