"""One trace a turn, from the HTTP request to the insert; and not a word of what was said in it, nor in any log."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.e2e.api import Api
from tests.e2e.archive import Archive
from tests.e2e.conversing import converse
from tests.e2e.provider import Provider
from tests.e2e.publishing import publishing, record, turn
from tests.e2e.tenants import ACME
from tests.e2e.topic import headers_of_events
from tests.e2e.traces import LAST, Trace, traced
from tests.stack import LocalStack

pytestmark = pytest.mark.e2e

POST = "POST /v1/sessions/{session_id}/turns"
TAKEN, PUBLISHED = "process turnstile.inputs.v1", "send turnstile.inputs.v1"
CLIENT = "00-7f3c1d0e9b8a4f6d8e2b1c0a9f8e7d6c-0123456789abcdef-01"
WORD = "Zwetschgenknoedel"


def _whole(trace: Trace, top: str) -> None:
    """Everything hangs below one span of that name, and nothing began before it."""
    assert [span.name for span in trace.tops] == [top], [s.name for s in trace.tops]
    began = trace.tops[0].start
    # The provider's own times are in it, and they may be cut to milliseconds.
    assert min(span.start for span in trace.spans) >= began - 2_000_000


async def _played(
    api: Api, archive: Archive, session_id: str, text: str, attempts: int = 1
) -> Trace:
    """The trace of a turn that was played and took so many attempts."""
    await api.open(session_id)
    await api.say(session_id, "t1", text)
    page = await api.turn_in(session_id, "t1", "completed")
    agent = ["invoke_agent"] * attempts
    trace = await traced(archive, page["trace_id"], POST, PUBLISHED, TAKEN, *agent, LAST)
    rows = await archive.complete(ACME, session_id, (await api.settled(session_id))["last_seq"])
    assert {row.trace_id for row in rows if row.turn_id} == {page["trace_id"]}
    return trace


async def test_a_turn_is_one_trace_from_the_request_to_the_insert(
    api: Api, archive: Archive, session_id: str
) -> None:
    trace = await _played(api, archive, session_id, "go [[script: tools rounds=2 calls=2]]")
    _whole(trace, POST)
    assert {span.service for span in trace.spans} == {"gateway", "agent-worker", "recorder"}
    [published], [taken], [agent] = map(trace.named, (PUBLISHED, TAKEN, "invoke_agent"))
    assert trace.above(published) == [POST]
    assert trace.above(taken) == [PUBLISHED, POST]
    assert trace.above(agent)[-2:] == [PUBLISHED, POST]
    assert trace.names >= {"head.write", "send turnstile.events.v1"}
    assert agent.attributes["gen_ai.operation.name"] == "invoke_agent"
    assert agent.attributes["turnstile.turn.status"] == "completed"
    # The model's requests and the tools, rebuilt from the provider's events.
    assert len(trace.named("chat")) == 3
    assert len(trace.named("execute_tool")) == 4
    for span in trace.named("chat") + trace.named("execute_tool"):
        assert trace.above(span)[0] == "invoke_agent"
        assert agent.start <= span.start + 2_000_000
    [insert] = trace.named(LAST)
    assert insert.attributes["db.system.name"] == "clickhouse"


async def test_the_sdks_own_spans_are_in_the_turns_trace(
    api: Api, archive: Archive, session_id: str
) -> None:
    trace = await _played(api, archive, session_id, "hello")
    calls = [span for span in trace.spans if "anthropic" in span.scope]
    assert {span.name for span in calls} >= {
        "anthropic.sessions.create",
        "anthropic.sessions.events.send",
    }
    for span in calls:
        assert trace.above(span)[0].startswith("provider.")
        assert trace.above(span)[-1] == POST
    [send] = trace.named("anthropic.sessions.events.send")
    assert trace.above(send)[:2] == ["provider.send", "invoke_agent"]


async def test_a_clients_trace_goes_on(api: Api, archive: Archive, session_id: str) -> None:
    await api.open(session_id)
    path, body = f"/v1/sessions/{session_id}/turns", {"content": "hello", "turn_id": "t1"}
    answer = await api.http.post(path, json=body, headers={"traceparent": CLIENT})
    assert answer.status_code == 202
    page = await api.turn_in(session_id, "t1", "completed")
    _, trace_id, span_id, _ = CLIENT.split("-")
    assert page["trace_id"] == trace_id
    trace = await traced(archive, trace_id, POST, LAST)
    _whole(trace, POST)
    assert trace.tops[0].parent == span_id


async def test_a_clients_tracestate_goes_to_the_provider_and_onto_the_events(
    local_stack: LocalStack, api: Api, archive: Archive, provider: Provider, session_id: str
) -> None:
    await api.open(session_id)
    path, body = f"/v1/sessions/{session_id}/turns", {"content": "hello", "turn_id": "t1"}
    trace_id, state = uuid.uuid4().hex, "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
    headers = [
        ("traceparent", f"00-{trace_id}-0123456789abcdef-01"),
        ("tracestate", "congo=t61rcWkgMzE"),
        ("tracestate", "rojo=00f067aa0ba902b7"),
    ]
    assert (await api.http.post(path, json=body, headers=headers)).status_code == 202
    await api.turn_in(session_id, "t1", "completed")
    [provider_session] = await provider.of(ACME, session_id)
    for asked in ("/v1/sessions", f"/v1/sessions/{provider_session}/events"):
        contexts = [c for c in await provider.traces(asked) if trace_id in c.get("traceparent", "")]
        assert {context.get("tracestate") for context in contexts} == {state}, asked
    said = await headers_of_events(local_stack.kafka, session_id)
    assert {h.get("tracestate") for h in said if trace_id in h.get("traceparent", "")} == {state}
    await traced(archive, trace_id, POST, LAST)
    sql = "SELECT DISTINCT TraceState FROM otel_traces WHERE TraceId = {trace:String}"
    assert await archive.query(sql, trace=trace_id) == [(state,)]


async def test_a_second_attempt_is_linked_to_the_first_and_not_inside_it(
    api: Api, archive: Archive, session_id: str
) -> None:
    trace = await _played(api, archive, session_id, "once more [[script: exhausted times=1]]", 2)
    _whole(trace, POST)
    first, second = trace.named("invoke_agent")
    assert second.links == [first.id]
    assert trace.above(second) == trace.above(first)
    assert [one.attributes["turnstile.attempt"] for one in (first, second)] == ["1", "2"]


async def test_a_record_without_a_trace_begins_one(
    local_stack: LocalStack, api: Api, archive: Archive, session_id: str
) -> None:
    async with publishing(local_stack.kafka) as publisher:
        await publisher.publish(turn(ACME, session_id, "t1", "hello"))
    page = await api.turn_in(session_id, "t1", "completed")
    _whole(await traced(archive, page["trace_id"], TAKEN, "invoke_agent", LAST), TAKEN)


# ---- nothing of what was said ---------------------------------------------------------------------------------


async def _say_it_everywhere(stack: LocalStack, api: Api, session_id: str) -> None:
    """The word in prompts and answers, in what is refused and in what is buried."""
    await api.open(session_id, title=WORD, metadata={"about": WORD})
    texts = [f"{WORD} [[script: tools rounds=1]]", f"{WORD} [[script: custom_tool]]", WORD]
    await converse(api, session_id, [*texts, f"{WORD} [[script: exhausted times=1]]"])
    base = f"/v1/sessions/{session_id}"
    await api.say(session_id, "asks", f"{WORD} [[script: custom_tool]]")
    await api.turn_in(session_id, "asks", "requires_action")
    [action] = (await api.session(session_id))["pending_actions"]
    answer = {"custom_tool_use_id": action["tool_use_id"], "content": WORD}
    await api.post(f"{base}/tool_results", answer)
    await api.turn_in(session_id, "asks", "completed")
    for bad in (
        {"content": [{"type": WORD}]},
        {"content": WORD, WORD: 1},
        {"turn_id": f"{WORD} x"},
    ):
        assert (await api.http.post(f"{base}/turns", json=bad)).status_code == 400
    async with publishing(stack.kafka) as publisher:
        await publisher.publish(turn(ACME, session_id, "buried", {"a": WORD}))
        broken = turn(ACME, session_id, "broken", WORD)
        broken.value = f'{{"content": "{WORD}'.encode()
        await publisher.publish(broken)
        late = {"custom_tool_use_id": "sevt_0", "content": WORD}
        await publisher.publish(record("tool.answered", ACME, session_id, **late))
        await publisher.publish(turn(ACME, session_id, "last", WORD))
    await api.turn_in(session_id, "last", "completed")


def _lines(stack: LocalStack) -> Iterator[tuple[str, str]]:
    """Every line that any part has logged, with the file's name."""
    for log in sorted(stack.settings.folders.log.iterdir()):
        for line in log.read_text(errors="replace").splitlines():
            yield log.name, line


async def test_no_span_and_no_log_line_holds_what_was_said(
    local_stack: LocalStack, api: Api, archive: Archive, session_id: str
) -> None:
    await _say_it_everywhere(local_stack, api, session_id)
    last = await api.turn(session_id, "last")
    await traced(archive, last["trace_id"], "invoke_agent", LAST)
    assert [hit for hit in _lines(local_stack) if WORD in hit[1]] == []
    spans = await archive.query(
        "SELECT SpanName, ServiceName FROM otel_traces"
        " WHERE position(formatRow('JSONEachRow', *), {word:String}) > 0",
        word=WORD,
    )
    assert spans == []
    # The word is in the archive, where it belongs: the search would have found it.
    found = await archive.count(
        "SELECT count() FROM events WHERE session_id = {session:String}"
        " AND position(formatRow('JSONEachRow', *), {word:String}) > 0",
        session=session_id,
        word=WORD,
    )
    assert found > 10
