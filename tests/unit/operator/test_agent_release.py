"""How a release of an agent changes, and which sessions get a canary."""

from __future__ import annotations

import pytest

from services.operator.agents.release import pinned, put_forward, rolled_back, told, with_canary
from services.operator.failures import Impossible
from shared.session.releases import Release, version_for

pytestmark = pytest.mark.unit
FIRST = put_forward(None, "", "support", "agent_1", 1, 20)


def forward(old: Release, version: int, share: int = 0) -> Release:
    return put_forward(old, "", "support", "agent_1", version, share)


def test_the_first_version_is_pinned_whatever_share_was_asked_for() -> None:
    assert (FIRST.pinned, FIRST.canary, FIRST.share) == (1, 0, 0)


def test_a_version_is_pinned_or_a_canary() -> None:
    assert (forward(FIRST, 2).pinned, forward(FIRST, 2).previous) == (2, 1)
    canary = forward(FIRST, 2, 20)
    assert (canary.pinned, canary.canary, canary.share) == (1, 2, 20)
    assert told(canary) == "version 1, and version 2 for 20 % of sessions"


def test_the_same_files_applied_again_do_not_undo_a_rollback() -> None:
    back = rolled_back(forward(FIRST, 2, 20))
    assert forward(back, 2, 20) == back
    assert forward(back, 2) == back
    assert forward(back, 3).pinned == 3


def test_rolled_back_is_the_end_of_a_canary_else_the_version_before() -> None:
    canary = forward(forward(FIRST, 2), 3, 10)
    once = rolled_back(canary)
    assert (once.pinned, once.canary) == (2, 0)
    assert rolled_back(once).pinned == 1
    with pytest.raises(Impossible, match="no version but 1"):
        rolled_back(FIRST)


def test_pinning_ends_a_canary_and_the_pinned_version_can_not_be_one() -> None:
    canary = forward(FIRST, 2, 20)
    assert pinned(canary, 2).canary == 0
    assert pinned(canary, 2).previous == 1
    with pytest.raises(Impossible, match="is pinned"):
        with_canary(canary, 1, 20)


def test_another_agent_of_the_name_begins_anew() -> None:
    new = put_forward(forward(FIRST, 2, 20), "", "support", "agent_2", 1, 20)
    assert (new.agent_id, new.pinned, new.canary, new.previous) == ("agent_2", 1, 0, 0)


@pytest.mark.parametrize("share", [0, 1, 20, 50, 100])
def test_a_share_of_sessions_gets_the_canary_always_the_same(share: int) -> None:
    release = with_canary(FIRST, 2, share) if share else FIRST
    keys = [("acme", f"session-{number}") for number in range(20_000)]
    got = [version_for(release, key) for key in keys]
    assert got == [version_for(release, key) for key in keys]
    found = got.count(2) / len(keys)
    assert abs(found - share / 100) <= 4 * (share / 100 * (1 - share / 100) / len(keys)) ** 0.5


def test_a_greater_share_keeps_those_that_have_it_and_another_canary_has_others() -> None:
    keys = [("acme", f"session-{number}") for number in range(2_000)]

    def canaries(version: int, share: int) -> set[tuple[str, str]]:
        release = with_canary(FIRST, version, share)
        return {key for key in keys if version_for(release, key) == version}

    assert canaries(2, 10) < canaries(2, 30)
    assert not canaries(2, 10) <= canaries(3, 30)
