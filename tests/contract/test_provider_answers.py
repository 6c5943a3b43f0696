"""The real driver on bad days of answers, interrupts and closings: each is given once, whatever was heard of it."""

from __future__ import annotations

import pytest

from services.agent_worker.ports import ProviderFailure
from services.agent_worker.provider import calls, send
from shared.session import provider
from tests.contract.provider_talk import Talk
from tests.contract.provider_worlds import (
    LIST,
    SEND,
    WireWorld,
)

pytestmark = pytest.mark.contract


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "SEND_TIMEOUT", 0.3)
    monkeypatch.setattr(send, "GRACE", (0.0, 0.05, 0.1))


# ---- answers and interrupts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["land_then_drop", "land_then_respond", "land_then_delay"])
@pytest.mark.parametrize("script", ["confirm", "custom_tool"])
async def test_an_answer_that_may_have_landed_is_given_once(
    healed: WireWorld, script: str, how: str
) -> None:
    talk = Talk(healed)
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.turn(f"please [[script: {script}]]")
        call = talk.state.pending[0].tool_use_id
        give = talk.confirm if script == "confirm" else talk.answer
        await healed.lose_answer(how)
        with pytest.raises(ProviderFailure) as caught:
            await give(call)
        assert not caught.value.final
        await give(call)
        while talk.state.turn is not None:
            await talk.hear()
    given = [e for e in talk.heard if e.type.startswith("user.") and e.type != "user.message"]
    assert [provider.answered(event.raw) for event in given] == [call]


async def test_an_answer_is_not_given_while_it_cannot_be_looked_for(healed: WireWorld) -> None:
    talk = Talk(healed)
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.turn("please [[script: custom_tool]]")
        call = talk.state.pending[0].tool_use_id
        fault = {"kind": "respond", "status": 503}
        await healed.rules({"match": {**LIST, "times": 1}, "fault": fault})
        with pytest.raises(ProviderFailure, match="api_error"):
            await talk.answer(call)
        await talk.answer(call)
        while talk.state.turn is not None:
            await talk.hear()
    await talk.check_all_heard_once()


@pytest.mark.parametrize("fault", ["drop", "land_then_drop"])
async def test_an_interrupt_that_may_have_landed_can_be_sent_again(
    healed: WireWorld, fault: str
) -> None:
    talk = Talk(healed)
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.send("stop me [[script: reply hold=1]]")
        await talk.hear("session.status_running")
        await healed.rules({"match": {**SEND, "times": 1}, "fault": {"kind": fault}})
        with pytest.raises(ProviderFailure) as caught:
            await talk.interrupt()
        assert not caught.value.final
        await talk.interrupt()
        await talk.hear()
    assert talk.state.turn is None


@pytest.mark.parametrize("status", [500, 429])
async def test_a_session_is_closed_by_the_next_try(healed: WireWorld, status: int) -> None:
    talk = Talk(healed)
    await talk.open()
    fault = {"kind": "respond", "status": status}
    for path in ("archive$", f"{talk.session}$"):
        method = "POST" if path == "archive$" else "DELETE"
        match = {"method": method, "path": path, "times": 1}
        await healed.rules({"match": match, "fault": fault})
        with pytest.raises(ProviderFailure) as caught:
            await healed.provider.close(talk.session, erase=True)
        assert not caught.value.final
    await healed.provider.close(talk.session, erase=True)
    with pytest.raises(ProviderFailure) as caught:
        await talk.send("gone?")
    assert caught.value.lost
