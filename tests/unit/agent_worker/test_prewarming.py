"""Provider sessions made before any turn, driven: one and no second, a bound on how many, and what none costs."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from services.agent_worker.ports import ProviderFailure
from services.agent_worker.session.prewarmed import Prewarmed
from shared import metrics
from shared.session.inputs import Filed
from tests.builders import interrupting, opening, turn
from tests.unit.agent_worker.outside import Outside
from tests.unit.agent_worker.test_shell import KEY, given, settled, types
from tests.unit.agent_worker.virtual_time import virtual

pytestmark = pytest.mark.unit
ASKED = opening(prewarm=True)


def of_session(filed: Filed, session_id: str) -> Filed:
    return replace(filed, request=replace(filed.request, session_id=session_id))


def refused() -> float:
    return metrics.read("turnstile_prewarms_total", {"outcome": "full"})


async def free(outside: Outside) -> None:
    await outside.until(lambda: outside.store.rows[KEY].owner is None, "the lease given back")


@virtual
async def test_it_waits_as_a_row_that_is_due_and_the_first_turn_only_sends() -> None:
    outside, worker = given()
    outside.ask(ASKED)
    await outside.said("session.prewarmed")
    await free(outside)
    assert outside.store.rows[KEY].wake_at is not None
    assert [session.messages for session in outside.provider.sessions.values()] == [[]]
    assert "watch" not in worker.effects.done, "nothing is listened to before there is a turn"
    outside.ask(turn())
    await settled(outside)
    assert types(outside)[:4] == [
        "session.opened",
        "session.prewarmed",
        "turn.accepted",
        "turn.started",
    ]
    assert worker.effects.done.count("open") == 1
    assert outside.received == ["hello"]


@virtual
async def test_a_turn_meanwhile_waits_for_it_and_makes_no_second_one() -> None:
    outside, worker = given()
    worker.effects.slow["open"] = 20.0
    outside.ask(ASKED, turn())
    await outside.said("turn.accepted")
    await settled(outside)
    assert worker.effects.done.count("open") == 1
    assert outside.received == ["hello"]
    assert "turn.completed" in types(outside)


@virtual
async def test_an_interrupt_meanwhile_stops_the_turn() -> None:
    outside, worker = given()
    worker.effects.slow["open"] = 20.0
    outside.ask(ASKED, turn(content="hold on [[script: hold]]"))
    await outside.said("turn.accepted")
    outside.ask(interrupting(1))
    await outside.said("turn.interrupted")
    await settled(outside)


@virtual
async def test_a_provider_that_refuses_is_asked_once_until_a_turn_comes() -> None:
    outside, worker = given()
    worker.effects.fails["open"] = [ProviderFailure("overloaded_error", "busy")]
    outside.ask(ASKED)
    await outside.said("session.prewarm_failed")
    await settled(outside)
    assert worker.effects.done.count("open") == 1
    assert outside.store.rows[KEY].wake_at is None
    outside.ask(turn())
    await outside.said("turn.completed")
    assert types(outside).count("turn.retrying") == 0


@virtual
async def test_one_that_was_made_though_its_answer_was_lost_is_adopted_by_the_turn() -> None:
    outside, _ = given()
    outside.provider.lost_openings.append(ProviderFailure("timeout", "no answer"))
    outside.ask(ASKED)
    await outside.said("session.prewarm_failed")
    outside.ask(turn())
    await outside.said("turn.completed")
    assert list(outside.provider.sessions) == ["sesn_1"]


@virtual
async def test_beyond_the_bound_a_session_is_cold_and_nobody_is_asked() -> None:
    outside, worker = given()
    full = refused()
    for n in range(70):
        outside.ask(of_session(ASKED, f"s{n}"))
    await outside.said("session.prewarmed", count=1)
    await outside.until(lambda: len(outside.publisher.events) >= 140, "what came of seventy")
    assert len(outside.provider.sessions) == 64
    assert worker.effects.done.count("open") == 64
    assert refused() == full + 6
    assert metrics.read("turnstile_prewarmed_sessions") == 64
    outside.ask(of_session(turn("t69"), "s69"))
    await outside.said("turn.completed")


def test_a_place_is_free_after_its_time_or_when_it_is_given_back() -> None:
    now = 0.0
    places = Prewarmed(1, 10.0, lambda: now)
    assert places.take(("acme", "s1"), made=False)
    assert not places.take(("acme", "s2"), made=False)
    assert places.take(("acme", "s3"), made=True), "what is there already counts"
    places.give_back(("acme", "s3"))
    places.give_back(("acme", "never taken"))
    assert not places.take(("acme", "s2"), made=False)
    now = 10.0
    assert places.take(("acme", "s2"), made=False)
    places.give_back(("acme", "s2"))
    assert places.take(("acme", "s4"), made=False)


def test_with_a_bound_of_none_nothing_is_prewarmed() -> None:
    assert not Prewarmed(0, 10.0, lambda: 0.0).take(KEY, made=False)
