"""Answers to tool calls, and interrupts: refused only where it is known that nothing can come of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from services.gateway.ports import Record
from services.gateway.read_model.projector import Projector
from services.gateway.views import SETTLED
from shared.bus.topics import EVENTS
from shared.session import Event, Input
from shared.session.key import SessionKey
from tests.builders import (
    SESSION,
    TENANT,
    Wire,
    archiving,
    bound,
    erasing,
    failed,
    opening,
    seen,
    turn,
)
from tests.fakes.gateway import MemoryRecordConsumer
from tests.unit.gateway.desk import Desk
from tests.unit.session.specification import history

pytestmark = pytest.mark.unit
KEY: SessionKey = (TENANT, SESSION)
URL = f"/v1/sessions/{SESSION}"
ALREADY, GONE = "already_answered", "no_longer_asked"
KEYED = {"Idempotency-Key": "k"}


class Asked:
    """A session whose agent asked two things, and what comes of them."""

    def __init__(self) -> None:
        self.wire = wire = Wire()
        self.call, self.other = wire.tool_use("ask"), wire.custom_tool_use()
        ids = (self.call.id, self.other.id)
        said = seen(wire.prompt(), self.call, self.other, wire.idle("requires_action", *ids))
        self.inputs: list[Input] = [opening(), turn("t1"), bound(), said]
        self.desk = Desk()

    async def then(self, *inputs: Input) -> Asked:
        """What this gateway has projected: the session up to and with `inputs`."""
        events = history(*self.inputs, *inputs)
        await project(self.desk, [recorded(event) for event in events])
        return self

    async def confirm(self, **headers: str) -> tuple[int, str]:
        body = {"tool_use_id": self.call.id, "result": "allow"}
        return await self._post("tool_confirmations", body, headers)

    async def result(self) -> tuple[int, str]:
        body = {"custom_tool_use_id": self.other.id, "content": "42"}
        return await self._post("tool_results", body, {})

    async def interrupt(self, **headers: str) -> tuple[int, str]:
        return await self._post("interrupt", {}, headers)

    async def _post(self, path: str, body: Any, headers: dict[str, str]) -> tuple[int, str]:
        async with self.desk.client() as client:
            answer = await client.post(f"{URL}/{path}", json=body, headers=headers)
        about = answer.json()
        return answer.status_code, about.get("type", about.get("status")).rpartition(":")[2]


async def project(desk: Desk, records: Sequence[Record]) -> None:
    await Projector(MemoryRecordConsumer([records]), desk.read_model, lambda _: True).step()


def recorded(event: Event) -> Record:
    return Record(EVENTS.name, 0, 0, SESSION.encode(), msgspec.json.encode(event), [])


async def test_what_is_asked_may_be_answered() -> None:
    asked = await Asked().then()
    assert await asked.confirm() == await asked.result() == (202, "accepted")


async def test_what_was_answered_is_not_answered_again() -> None:
    asked = Asked()
    wire = asked.wire
    await asked.then(seen(wire.confirmed(asked.call.id)))
    assert await asked.confirm() == (409, ALREADY)
    assert await asked.result() == (202, "accepted")
    await asked.then(seen(wire.confirmed(asked.call.id), wire.answered(asked.other.id)))
    assert await asked.result() == (409, ALREADY)
    assert [e.type for e, _ in asked.desk.inputs.published] == ["tool.answered"]


@pytest.mark.parametrize(
    "ends",
    [
        lambda wire: [seen(wire.terminated())],
        lambda wire: [seen(wire.interrupted(), wire.idle())],
        lambda wire: [seen(wire.idle("end_turn"))],
        lambda wire: [failed(lost=True)],
    ],
    ids=["provider session lost", "interrupted", "turn ended", "lost while sending"],
)
async def test_what_is_gone_is_not_answered(ends: Any) -> None:
    asked = Asked()
    await asked.then(*ends(asked.wire))
    assert await asked.confirm() == await asked.result() == (409, GONE)


async def test_an_answer_that_comes_before_the_news_of_its_question_is_taken() -> None:
    """Whoever reads the stream of another gateway may know more than this one."""
    asked = Asked()
    asked.inputs = [opening(), turn("t1")]
    await asked.then()
    assert await asked.confirm() == await asked.result() == (202, "accepted")


async def test_a_call_that_a_new_attempt_may_ask_again_is_left_to_the_session() -> None:
    asked = Asked()
    wire = asked.wire
    await asked.then(seen(wire.error("exhausted"), wire.idle("retries_exhausted"), chance=0.5))
    assert asked.desk.read_model.rows[KEY].page.view.pending_actions == ()
    assert await asked.confirm() == (202, "accepted")


@pytest.mark.parametrize("first", ["the answer", "what came of it"])
async def test_the_same_answer_made_again_is_the_same_answer_on_every_gateway(first: str) -> None:
    """Whichever of the two topics is read first."""
    asked = await Asked().then()
    assert await asked.confirm(**KEYED) == (202, "accepted")
    if first == "the answer":
        await asked.desk.project()
    await asked.then(seen(asked.wire.confirmed(asked.call.id)))
    another = Asked()
    another.desk, another.call = Desk(read_model=asked.desk.read_model), asked.call
    for gateway in (asked, another):
        assert await gateway.confirm(**KEYED) == (202, "accepted")
        assert await gateway.confirm(**{"Idempotency-Key": "other"}) == (409, ALREADY)
    assert len({e.id for desk in (asked.desk, another.desk) for e, _ in desk.inputs.published}) == 1


async def test_what_was_taken_once_is_taken_again_when_nothing_can_come_of_it_any_more() -> None:
    asked = await Asked().then()
    assert await asked.confirm(**KEYED) == await asked.interrupt(**KEYED) == (202, "accepted")
    await asked.then(seen(asked.wire.terminated()))
    assert await asked.confirm(**KEYED) == (202, "accepted")
    async with asked.desk.client() as client:
        assert (await client.post(f"{URL}/archive")).status_code == 202
    assert await asked.confirm(**KEYED) == await asked.interrupt(**KEYED) == (202, "accepted")
    assert len({envelope.id for envelope, _ in asked.desk.inputs.published}) == 3
    assert await asked.confirm() == await asked.interrupt() == (409, "session_archived")


async def test_an_answer_is_taken_again_however_many_came_after_it() -> None:
    asked = await Asked().then()
    assert await asked.confirm(**KEYED) == (202, "accepted")
    await asked.then(seen(asked.wire.confirmed(asked.call.id)))
    async with asked.desk.client() as client:
        for number in range(SETTLED + 8):
            wish = {"tool_use_id": f"sevt_of_{number}", "result": "allow"}
            await client.post(f"{URL}/tool_confirmations", json=wish, headers=KEYED)
    await asked.desk.project()
    assert await asked.confirm(**KEYED) == (202, "accepted")


async def test_what_was_refused_under_a_key_is_refused_again() -> None:
    asked = Asked()
    await asked.then(seen(asked.wire.confirmed(asked.call.id)))
    for _ in range(2):
        assert await asked.confirm(**KEYED) == (409, ALREADY)
    assert asked.desk.inputs.published == []


async def test_the_keys_of_an_erased_session_are_forgotten() -> None:
    asked = await Asked().then()
    assert await asked.confirm(**KEYED) == (202, "accepted")
    await asked.then(erasing(9))
    assert await asked.confirm(**KEYED) == (409, "session_erased")


async def test_one_key_on_two_calls_is_two_answers_and_on_one_call_is_one() -> None:
    asked = await Asked().then()
    ids = []
    async with asked.desk.client() as client:
        for call in ("sevt_1", "sevt_2", "sevt_1"):
            for path, field, more in (
                ("tool_confirmations", "tool_use_id", {"result": "allow"}),
                ("tool_results", "custom_tool_use_id", {"content": "42"}),
            ):
                wish, headers = {field: call, **more}, {"Idempotency-Key": "k"}
                answer = await client.post(f"{URL}/{path}", json=wish, headers=headers)
                assert answer.status_code == 202, answer.text
                ids.append(asked.desk.inputs.published[-1][0].id)
    assert ids[:2] == ids[4:]
    assert len(set(ids)) == 4


@pytest.mark.parametrize(
    ("closing", "word"), [(archiving(9), "session_archived"), (erasing(9), "session_erased")]
)
async def test_a_closed_session_takes_neither_answers_nor_interrupts(
    closing: Input, word: str
) -> None:
    asked = await Asked().then(closing)
    assert await asked.confirm() == await asked.result() == (409, word)
    assert await asked.interrupt() == (409, word)
    assert asked.desk.inputs.published == []


async def test_without_the_database_nothing_is_known_and_all_is_taken() -> None:
    asked = Asked()
    await asked.then(seen(asked.wire.confirmed(asked.call.id)))
    assert await asked.interrupt() == (202, "accepted")
    asked.desk.read_model.down = True
    assert await asked.confirm() == (202, "accepted")
    assert await asked.interrupt() == (202, "accepted")
    async with asked.desk.client() as client:
        wish = {"tool_use_id": asked.call.id, "result": "allow"}
        answer = await client.post(f"{URL}/tool_confirmations", json=wish, headers=KEYED)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


async def test_a_page_remembers_the_newest_calls_only() -> None:
    wire = Wire()
    calls = [wire.tool_use("ask") for _ in range(SETTLED + 8)]
    asked = Asked()
    prompt, asks = wire.prompt(), wire.idle("requires_action", *(call.id for call in calls))
    asked.inputs = [opening(), turn("t1"), bound(), seen(prompt, *calls, asks)]
    await asked.then(*(seen(wire.confirmed(call.id)) for call in calls))
    settled = asked.desk.read_model.rows[KEY].page.settled
    assert [call.tool_use_id for call in settled] == [call.id for call in calls[8:]]
    assert {call.end for call in settled} == {"answered"}
