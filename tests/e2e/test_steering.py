"""A turn that steers the one that runs, over HTTP and Kafka, down to the archive."""

from __future__ import annotations

import pytest

from infra.simulator import reply_to
from tests.e2e.api import Api
from tests.e2e.archive import Archive
from tests.e2e.provider import Provider
from tests.e2e.publishing import publishing, turn
from tests.e2e.recorded import assert_recorded, turn_rows
from tests.e2e.tenants import ACME
from tests.stack import LocalStack

pytestmark = pytest.mark.e2e
HELD = "Take your time. [[script: tools rounds=2 calls=1 hold=1]]"


def _next_send(session_id: str) -> dict[str, object]:
    whose = {"turnstile": f"{ACME}/{session_id}"}
    return {"path": "/events$", "method": "POST", "session": whose, "times": 1}


async def test_two_join_a_turn_and_end_with_it(
    api: Api, archive: Archive, provider: Provider, local_stack: LocalStack, session_id: str
) -> None:
    await api.open(session_id)
    await api.say(session_id, "t1", HELD)
    session = await provider.prompted(ACME, session_id)
    await api.say(session_id, "t2", "No, the other one.", on_busy="steer")
    await provider.prompted(ACME, session_id, times=2)
    async with publishing(local_stack.kafka) as publisher:
        await publisher.publish(turn(ACME, session_id, "t3", "and be quick", on_busy="steer"))
    await api.turn_in(session_id, "t3", "accepted")
    await api.say(session_id, "t4", "Thanks.")
    await provider.release(session)
    pages = {id: await api.turn_in(session_id, id, "completed") for id in ("t1", "t2", "t3", "t4")}
    log = await provider.only(ACME, session_id)
    assert log.prompts == [HELD, "No, the other one.", "and be quick", "Thanks."]
    page = await api.settled(session_id)
    assert page["cost_usd"] == pytest.approx(sum(p["cost_usd"] for p in pages.values()), abs=1e-6)
    assert pages["t4"]["reply"] == reply_to("Thanks.")
    # t2 was there before the last request of t1; whether t3 came before its end or behind it is up to the provider.
    assert pages["t2"]["reply"] == pages["t1"]["reply"]
    assert pages["t2"]["cost_usd"] == 0
    rows = await archive.complete(ACME, session_id, page["last_seq"])
    assert turn_rows(rows, "t2") == ["turn.accepted", "turn.started", "turn.completed"]
    assert [r.type for r in rows if r.turn_id == "t2" and r.provider_event_id] == ["user.message"]
    assert_recorded(rows, log)


async def test_one_that_comes_too_late_is_a_turn_by_itself(
    api: Api, provider: Provider, session_id: str
) -> None:
    """The provider refuses it until the running turn has ended: it waits, and is sent once."""
    await api.open(session_id)
    await api.say(session_id, "t1", HELD)
    session = await provider.prompted(ACME, session_id)
    match = _next_send(session_id)
    await provider.fault(match, {"kind": "respond", "status": 529})
    await api.say(session_id, "t2", "No, the other one.", on_busy="steer")
    await api.turn_in(session_id, "t2", "running")
    await provider.struck(match)
    await provider.release(session)
    first = await api.turn_in(session_id, "t1", "completed")
    second = await api.turn_in(session_id, "t2", "completed")
    assert second["reply"] == reply_to("No, the other one.") != first["reply"]
    assert second["cost_usd"] > 0
    assert (await provider.log(session)).prompts == [HELD, "No, the other one."]


async def test_a_lost_answer_is_no_second_message(
    api: Api, provider: Provider, session_id: str
) -> None:
    await api.open(session_id)
    await api.say(session_id, "t1", HELD)
    session = await provider.prompted(ACME, session_id)
    await provider.fault(_next_send(session_id), {"kind": "land_then_drop"})
    await api.say(session_id, "t2", "No, the other one.", on_busy="steer")
    await provider.prompted(ACME, session_id, times=2)
    await provider.release(session)
    for id in ("t1", "t2"):
        page = await api.turn_in(session_id, id, "completed")
        assert page["reply"] == reply_to("No, the other one.")
    assert (await provider.log(session)).prompts == [HELD, "No, the other one."]
