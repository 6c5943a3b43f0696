"""Dead letters: all of them on the log, each told as long as there are few, and of many only how many."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Sequence

import pytest
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError, OutOfOrderSequenceNumber

from shared import metrics
from shared.bus.envelope import AGENT_WORKER, GATEWAY, Headers
from shared.dead_letters import (
    MOST_SOURCES,
    TOLD_EACH,
    DeadLetters,
    Letter,
    Sources,
)
from tests.builders import BEGINNING, TRACEPARENT
from tests.tracing import parent_of, tracing
from tests.unit.agent_worker.virtual_time import virtual

pytestmark = pytest.mark.unit
PLACE = "turnstile.inputs.v1/0/1"


class Log:
    """A producer in memory. `errors` befall the next sends, one each: at once, or when it is acknowledged."""

    def __init__(self, *errors: tuple[str, BaseException | None], most: int = 10_000) -> None:
        self.errors = list(errors)
        self.most = most
        self.records: list[tuple[bytes | None, bytes | None, Headers]] = []
        self.under_way = 0
        self.at_once = 0

    async def send(
        self, topic: str, *, value: bytes | None, key: bytes | None, headers: Headers
    ) -> Awaitable[object]:
        size = len(value or b"") + len(key or b"") + sum(len(v) for _, v in headers)
        if size > self.most:
            raise MessageSizeTooLargeError
        when, error = self.errors.pop(0) if self.errors else ("", None)
        if error is not None and when == "at once":
            raise error
        self.under_way += 1
        self.at_once = max(self.at_once, self.under_way)
        return self._acknowledge(error, (key, value, headers))

    async def _acknowledge(
        self, error: BaseException | None, record: tuple[bytes | None, bytes | None, Headers]
    ) -> None:
        await asyncio.sleep(0.01)
        self.under_way -= 1
        if error is not None:
            raise error
        self.records.append(record)


def letter(
    number: int = 0,
    *,
    headers: Sequence[tuple[str, bytes]] = (),
    reason: str = "unknown_tenant",
    source: str = "/other",
) -> Letter:
    marks = [("ce_source", source.encode()), ("dead_source", PLACE.encode())]
    value = json.dumps(number).encode()
    return Letter(b"s1", value, [*headers, *marks], reason, "turnstile.inputs.v1", PLACE)


def letters(log: Log) -> DeadLetters:
    return DeadLetters(log, lambda: BEGINNING, asyncio.get_running_loop().time)


@virtual
async def test_many_letters_are_under_way_at_once_and_keep_their_order() -> None:
    log = Log()
    await letters(log).put([letter(number) for number in range(500)])
    assert [value for _, value, _ in log.records] == [b"%d" % number for number in range(500)]
    assert log.at_once == 500


@pytest.mark.parametrize("when", ["at once", "later"])
@virtual
async def test_a_letter_that_was_not_taken_is_sent_again(when: str) -> None:
    log = Log(("", None), (when, KafkaTimeoutError()))
    await letters(log).put([letter(number) for number in range(4)])
    assert sorted(value or b"" for _, value, _ in log.records) == [b"0", b"1", b"2", b"3"]


@virtual
async def test_a_producer_that_can_never_send_again_is_said() -> None:
    with pytest.raises(OutOfOrderSequenceNumber):
        await letters(Log(("later", OutOfOrderSequenceNumber()))).put([letter()])


@virtual
async def test_a_letter_that_is_too_large_goes_without_its_value_and_then_without_the_rest() -> (
    None
):
    log = Log(most=200)
    large = Letter(b"s1", b"x" * 300, [("dead_source", PLACE.encode())], "r", "t", PLACE)
    huge = letter(headers=[("x", b"y" * 1000)])
    await letters(log).put([letter(1), large, huge])
    found = {key: (value, dict(headers)) for key, value, headers in log.records[1:]}
    assert found[b"s1"] == (None, {"dead_source": PLACE.encode(), "dead_value_bytes": b"300"})
    assert found[None] == (None, {"dead_source": PLACE.encode(), "dead_value_bytes": b"1"})


@pytest.mark.parametrize(
    ("headers", "parent"),
    [
        ([("ce_id", b"1"), ("traceparent", TRACEPARENT.encode())], TRACEPARENT),
        ([("TraceParent", TRACEPARENT.encode())], TRACEPARENT),
        ([("traceparent", b"\xff\xfe")], ""),
        ([("traceparent", b"nonsense")], ""),
        ([], ""),
    ],
)
@virtual
async def test_a_letter_is_sent_in_the_trace_of_its_record(headers: Headers, parent: str) -> None:
    with tracing() as kept:
        await letters(Log()).put([letter(headers=headers)])
        span = kept.one("send turnstile.dead.v1")
    assert parent_of(span) == parent
    attributes = span.attributes or {}
    assert attributes["turnstile.dead.reason"] == "unknown_tenant"
    assert attributes["turnstile.dead.publisher"] == "/other"


@virtual
async def test_of_many_that_die_alike_the_first_are_told_and_the_rest_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    own = letters(Log())
    with tracing() as kept:
        for _ in range(20):
            await own.put([letter(number) for number in range(500)])
        await own.put([letter(source=GATEWAY)])
        spans = [span.attributes or {} for span in kept.spans("send turnstile.dead.v1")]
    assert sum(int(str(span["messaging.batch.message_count"])) for span in spans) == 10_001
    assert len(spans) <= TOLD_EACH + 20 + 1
    assert len(caplog.records) <= TOLD_EACH + 1
    assert {span["turnstile.dead.publisher"] for span in spans} == {"/other", "gateway"}


@virtual
async def test_letters_are_counted_by_who_published_them() -> None:
    def count(source: str) -> float:
        return metrics.read("turnstile_dead_letters_by_source_total", {"source": source})

    before = {source: count(source) for source in ("gateway", "none", "other", "/counted")}
    own = letters(Log())
    found = [letter(source=source) for source in (GATEWAY, "", "/counted", "/counted", "a b")]
    await own.put(found)
    assert {source: count(source) - was for source, was in before.items()} == {
        "gateway": 1,
        "none": 1,
        "other": 1,
        "/counted": 2,
    }


def test_a_process_names_so_many_publishers_and_no_more() -> None:
    sources = Sources()

    def label(source: str) -> str:
        return sources.label([("ce_source", source.encode())])

    names = [label(f"/service-{number}") for number in range(1_000)]
    assert len(set(names)) == MOST_SOURCES + 1
    assert names[-1] == "other"
    assert label("/service-0") == "/service-0"
    assert label(f"{AGENT_WORKER}/acme") == "agent-worker"
    assert label("turnstile/operator") == label("/turnstile/operator/rerun") == "operator"
    assert label("x" * 1000) == "other"
