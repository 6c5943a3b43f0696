"""Any conversation, any crashes, any failures of provider and database: the log is that of the quiet run, up to
what the troubles themselves added (`outcome.py` names it)."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from tests.unit.agent_worker.any_play import (
    Conversation,
    Troubles,
    conversations,
    played,
    troubles,
)

pytestmark = pytest.mark.unit


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(conversation=conversations, befalls=troubles)
def test_trouble_leaves_no_trace(conversation: Conversation, befalls: Troubles) -> None:
    quiet = Troubles(tempo=befalls.tempo)
    assert played(conversation, befalls) == played(conversation, quiet)
