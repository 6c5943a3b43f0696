"""How the provider says that a turn is over, or only that it has trouble, and what the core makes of it."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from infra.simulator.server import running
from infra.simulator.settings import Settings
from services.agent_worker.ports import ProviderFailure
from shared.clock import utcnow
from shared.moment import rfc3339
from shared.session.inputs import BudgetSet, DeadlineElapsed, Failed, Filed, SessionRequested
from tests.builders import TENANT, USER
from tests.contract.provider_talk import DEADLINE_S, Talk, stop_reason
from tests.contract.provider_worlds import WireWorld

pytestmark = pytest.mark.contract


def ends(talk: Talk) -> list[str]:
    """What became of the turn, as its events tell it."""
    return [kind for kind in talk.told if kind.startswith("turn.") and kind != "turn.accepted"]


async def heard(wire: WireWorld, text: str, **more: Any) -> tuple[Talk, str]:
    """A session (with `more` of its own) that has heard the whole turn, and the idle's reason."""
    talk = Talk(wire)
    whose: dict[str, Any] = {
        "tenant_id": TENANT,
        "session_id": talk.state.session_id,
        "at": rfc3339(utcnow()),
    }
    talk.take(Filed(input_id="ce:open", request=SessionRequested(user_id=USER, **whose, **more)))
    talk.ask(text)
    await talk.open()
    async with talk.watching(fresh=True):
        idle = await talk.turn(text)
    return talk, stop_reason(idle)


async def test_errors_that_the_provider_retries_itself_end_nothing(wire: WireWorld) -> None:
    talk, reason = await heard(wire, "slowly [[script: error_retrying errors=3]]")
    assert reason == "end_turn"
    assert ends(talk) == ["turn.started", "turn.completed"]
    assert [event.type for event in talk.heard].count("session.error") >= 3
    await talk.check_all_heard_once()


async def test_retries_that_were_used_up_begin_an_attempt_of_ours(wire: WireWorld) -> None:
    talk, reason = await heard(wire, "in vain [[script: retries_exhausted]]")
    assert reason == "retries_exhausted"
    assert ends(talk) == ["turn.started", "turn.retrying"]
    assert talk.state.failures == 1
    await talk.check_all_heard_once()


async def test_a_budget_that_is_used_up_waits_and_goes_on_once_it_was_raised(
    wire: WireWorld,
) -> None:
    talk, reason = await heard(wire, "dear [[script: budget]]", budget_usd=1.5)
    assert reason == "budget_reached"
    assert ends(talk) == ["turn.started", "turn.requires_action"]
    (waits,) = talk.state.pending
    async with talk.watching():
        await wire.provider.set_budget(talk.session, talk.state.allowance(50.0))
        talk.take(BudgetSet(input_id="b", budget_usd=50.0, pause=waits.tool_use_id, at=waits.since))
        await talk.hear()
    assert ends(talk)[-1] == "turn.completed"
    assert [event.type for event in talk.heard].count("user.message") == 1
    await talk.check_all_heard_once()


async def test_a_budget_that_is_there_already_is_left_alone(wire: WireWorld) -> None:
    """Asked again after a crash: by then it may be used up, and the provider would refuse it."""
    talk, _ = await heard(wire, "dear [[script: budget]]", budget_usd=1.5)
    await wire.provider.set_budget(talk.session, 150)
    assert await _amount(wire, talk.session) == 150
    with pytest.raises(ProviderFailure) as refused:
        await wire.provider.set_budget(talk.session, 10)
    assert (refused.value.reason, refused.value.final) == ("budget_not_raised", True)


async def test_no_budget_is_added_to_a_session_that_began_without_one(wire: WireWorld) -> None:
    talk, _ = await heard(wire, "hello")
    with pytest.raises(ProviderFailure) as refused:
        await wire.provider.set_budget(talk.session, 1_000)
    assert (refused.value.reason, refused.value.final) == ("budget_create_only", True)


async def test_a_terminated_session_is_given_up_and_the_turn_is_not(wire: WireWorld) -> None:
    text = "too much [[script: terminal]]"
    talk = Talk(wire)
    talk.ask(text)
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.send(text)
        await talk.hear("session.status_terminated")
    assert ends(talk) == ["turn.started", "turn.retrying"]
    assert "session.rotated" in talk.told
    assert talk.state.provider_session_id is None


async def _lost(wire: WireWorld, budget_usd: float, cents: int) -> Talk:
    """A session that spent so much and whose provider session is gone; its next turn asks for another one."""
    dear = f"dear [[script: budget rounds=1 cents={cents}]]"
    talk, _ = await heard(wire, dear, budget_usd=budget_usd)
    await wire.retire(talk.session)
    talk.ask("and then?")
    with contextlib.suppress(ProviderFailure):
        async with talk.watching():
            await talk.hear("never")
    now = rfc3339(utcnow())
    turn = talk.state.open_turn or ""
    talk.take(Failed(turn_id=turn, reason="session_lost", detail="archived", at=now, lost=True))
    return talk


async def _amount(wire: WireWorld, session: str) -> int:
    """What a provider session may spend, in cents."""
    found = await wire.client.beta.sessions.retrieve(session)
    assert found.budget is not None
    return int(found.budget.max_list_cost.amount)


async def test_what_a_session_moves_to_may_spend_what_is_left(wire: WireWorld) -> None:
    talk = await _lost(wire, 1.0, 40)
    spent = talk.state.cost_cents
    assert spent >= 40
    made = await talk.open()
    assert await _amount(wire, made.id) == 100 - spent - 1


async def test_a_session_that_has_nothing_left_moves_nowhere(wire: WireWorld) -> None:
    talk = await _lost(wire, 0.4, 40)
    assert ends(talk)[-1] == "turn.retrying"
    talk.take(DeadlineElapsed(at=rfc3339(utcnow() + timedelta(seconds=60))))
    assert ends(talk)[-1] == "turn.requires_action", "the budget is to be raised first"
    assert len(await wire.made_for(talk.state.session_id)) == 1


async def test_what_a_crash_left_behind_is_adopted_only_with_what_is_left(wire: WireWorld) -> None:
    """One that was made before others were spent in would spend too much."""
    talk = await _lost(wire, 1.0, 40)
    early = replace(talk.state, cost_cents=0, rotated_cents=0, unsure_cents=0)
    left = await wire.provider.open(early, look=False)
    assert await _amount(wire, left.id) == 100
    made = await talk.open(look=True)
    assert made.id != left.id
    again = replace(talk.state, provider_session_id=None)
    assert (await wire.provider.open(again, look=True)).id == made.id


@pytest.mark.parametrize("erase", [False, True])
async def test_a_status_that_is_behind_delays_the_closing_and_nothing_else(erase: bool) -> None:
    """The stream has shown the idle; what archive and delete go by still says running."""
    async with running(Settings(port=0, status_lag_seconds=3.0, mix={"reply": 1})) as url:
        world = WireWorld(url)
        talk, _ = await heard(world, "hello [[script: reply]]")
        with pytest.raises(ProviderFailure) as caught:
            await world.provider.close(talk.session, erase=erase)
        assert not caught.value.final, "worth another try"
        async with asyncio.timeout(DEADLINE_S):
            while not await _closed(world, talk.session, erase):
                pass
        await world.close()


async def _closed(world: WireWorld, session: str, erase: bool) -> bool:
    try:
        await world.provider.close(session, erase=erase)
    except ProviderFailure:
        return False
    return True
