"""Other services publish turns straight to Kafka: the example of docs/publishers.md, and what it promises."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from infra.simulator import reply_to
from tests.e2e.api import Api
from tests.e2e.archive import Archive
from tests.e2e.examples import example, run
from tests.e2e.provider import Provider
from tests.e2e.publishing import INPUTS, Publisher, publishing, record, turn
from tests.e2e.refused import assert_refused
from tests.e2e.tenants import ACME
from tests.stack import LocalStack

pytestmark = pytest.mark.e2e
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


async def test_the_documents_example_gets_its_reply(
    local_stack: LocalStack, api: Api, provider: Provider, tmp_path: Path, session_id: str
) -> None:
    program, text = tmp_path / "publish_turn.py", "What is a turnstile? — ¿Qué es? 回転扉"
    program.write_text(example("docs/publishers.md", program.name), encoding="utf-8")
    # -I: only installed packages, nothing of the project.
    argv = (sys.executable, "-I", str(program), local_stack.kafka, ACME, session_id, text)
    said = await run(*argv, PYTHONUTF8="1")
    turn_id, status, reply = said.rstrip("\n").split(" ", 2)
    assert (status, reply) == ("completed", reply_to(text))
    page = await api.ended(session_id, turn_id)
    assert (page["status"], page["reply"], page["user_id"]) == ("completed", reply, "batch-job")
    assert (await provider.only(ACME, session_id)).prompts == [text]


async def test_the_example_needs_nothing_of_ours() -> None:
    code = example("docs/publishers.md", "publish_turn.py")
    for room in ("shared", "services", "infra", "turnstile"):
        assert f"import {room}" not in code
        assert f"from {room}" not in code


async def test_one_turn_id_is_one_turn_whoever_publishes_it(
    local_stack: LocalStack, api: Api, provider: Provider, session_id: str
) -> None:
    async with publishing(local_stack.kafka) as publisher:
        for content in ("first", "second", "third"):
            await publisher.publish(turn(ACME, session_id, "order-4711", content))
        page = await api.turn_in(session_id, "order-4711", "completed")
        await api.say(session_id, "order-4711", "fourth")
        await publisher.publish(turn(ACME, session_id, "order-4712", "another"))
        await api.ended(session_id, "order-4712")
    assert page["reply"] == reply_to("first")
    assert (await provider.only(ACME, session_id)).prompts == ["first", "another"]


async def test_a_turn_of_an_aborted_transaction_is_none(
    local_stack: LocalStack, api: Api, provider: Provider, session_id: str
) -> None:
    producer: Any = AIOKafkaProducer(
        bootstrap_servers=local_stack.kafka, transactional_id=f"e2e-{session_id}"
    )
    async with producer:
        for turn_id, end in (
            ("first", producer.commit_transaction),
            ("aborted", producer.abort_transaction),
            ("last", producer.commit_transaction),
        ):
            await producer.begin_transaction()
            sent = turn(ACME, session_id, turn_id, turn_id)
            headers = list(sent.headers.items())
            await producer.send_and_wait(INPUTS, sent.value, key=sent.key, headers=headers)
            await end()
    await api.turn_in(session_id, "last", "completed")
    assert (await provider.only(ACME, session_id)).prompts == ["first", "last"]
    answer = await api.http.get(f"/v1/sessions/{session_id}/turns/aborted")
    assert_refused(answer, 404, "unknown_turn")


async def test_what_is_published_together_is_played_in_order(
    local_stack: LocalStack, api: Api, provider: Provider, session_id: str
) -> None:
    texts = [f"number {number}" for number in range(1, 9)]
    async with publishing(local_stack.kafka) as publisher:
        for number, text in enumerate(texts):
            await publisher.publish(turn(ACME, session_id, f"t{number}", text))
    await api.ended(session_id, f"t{len(texts) - 1}")
    assert (await provider.only(ACME, session_id)).prompts == texts


async def test_a_session_requested_first_has_its_title(
    local_stack: LocalStack, api: Api, session_id: str
) -> None:
    wish = {"user_id": "u7", "title": "Orders", "metadata": {"shop": "north"}}
    async with publishing(local_stack.kafka) as publisher:
        await publisher.publish(record("session.requested", ACME, session_id, **wish))
        await publisher.publish(turn(ACME, session_id, "t1", "hello"))
    await api.turn_in(session_id, "t1", "completed")
    page = await api.session(session_id)
    assert {name: page[name] for name in wish} == wish


async def _traces(publisher: Publisher, api: Api, session_id: str, header: bytes | None) -> str:
    sent = turn(ACME, session_id, "t1", "hello")
    if header is not None:
        sent.headers["traceparent"] = header
    await publisher.publish(sent)
    trace_id: str = (await api.turn_in(session_id, "t1", "completed"))["trace_id"]
    return trace_id


@pytest.mark.parametrize("header", [TRACEPARENT.encode(), None, b"00-zz", b"\xff\x00"])
async def test_a_turn_is_in_its_publishers_trace_or_begins_one(
    local_stack: LocalStack, api: Api, archive: Archive, session_id: str, header: bytes | None
) -> None:
    async with publishing(local_stack.kafka) as publisher:
        trace_id = await _traces(publisher, api, session_id, header)
    assert len(trace_id) == 32
    assert (trace_id == TRACE) == (header == TRACEPARENT.encode())
    rows = await archive.complete(ACME, session_id, (await api.settled(session_id))["last_seq"])
    assert {row.trace_id for row in rows if row.turn_id} == {trace_id}
