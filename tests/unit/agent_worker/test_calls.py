"""A message and a list are asked for as the SDK would ask, and fail as they would there, without the SDK making the
request; where a trace is kept the call has the span that the SDK makes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import AsyncAnthropic
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.agent_worker.provider.calls import SEND_TIMEOUT, Page, newest, post
from services.agent_worker.provider.client import CountingClient
from shared import telemetry
from shared.settings import TelemetrySettings

pytestmark = pytest.mark.unit
EVENTS = [{"type": "user.message", "content": [{"type": "text", "text": "wie geht’s?"}]}]
SESSION = "sesn_1/x y"


def client_of(answer: Callable[[httpx2.Request], httpx2.Response]) -> AsyncAnthropic:
    """A client of an API that gives this answer."""
    http = CountingClient(transport=httpx2.MockTransport(answer))
    return AsyncAnthropic(api_key="key", base_url="http://provider/below", http_client=http)


async def through_sdk(client: AsyncAnthropic, session: str, events: list[Any]) -> None:
    """The same, by the SDK's own method."""
    asked = client.with_options(max_retries=0)
    await asked.beta.sessions.events.with_raw_response.send(
        session_id=session, events=events, timeout=SEND_TIMEOUT
    )


def told(request: httpx2.Request) -> dict[str, Any]:
    """All that the provider and the connection see of a request, but for its trace: outside of any the SDK begins
    one of its own wherever spans are made."""
    apart = ("content-length", "traceparent", "tracestate")
    headers = {name: value for name, value in request.headers.items() if name not in apart}
    return {
        "line": (request.method, str(request.url)),
        "headers": headers,
        "timeout": request.extensions["timeout"],
    }


async def test_what_leaves_is_what_the_sdk_would_send() -> None:
    came = list[httpx2.Request]()

    def answer(request: httpx2.Request) -> httpx2.Response:
        came.append(request)
        return httpx2.Response(200, json={"data": []})

    async with client_of(answer) as client:
        await through_sdk(client, SESSION, EVENTS)
        for _ in range(2):
            await post(client, SESSION, EVENTS)
    sdks, *ours = came
    for request in ours:
        assert told(request) == told(sdks)
        assert httpx2.Response(200, content=request.content).json() == {"events": EVENTS}
        assert int(request.headers["content-length"]) == len(request.content)


async def test_a_message_goes_by_the_transport_that_is_mounted_for_its_address() -> None:
    def nobody(request: httpx2.Request) -> httpx2.Response:
        raise AssertionError(request.url)

    mounted = httpx2.MockTransport(lambda _: httpx2.Response(200, json={"data": []}))
    http = CountingClient(
        transport=httpx2.MockTransport(nobody), mounts={"http://provider": mounted}
    )
    async with AsyncAnthropic(
        api_key="key", base_url="http://provider/below", http_client=http
    ) as client:
        await post(client, SESSION, EVENTS)


async def test_a_trace_that_is_not_kept_goes_along() -> None:
    came = list[httpx2.Request]()

    def answer(request: httpx2.Request) -> httpx2.Response:
        came.append(request)
        return httpx2.Response(200, json={"data": []})

    parent = f"00-{'a' * 32}-{'b' * 16}-00"
    async with client_of(answer) as client:
        with telemetry.under(lambda: f"{parent} congo=t61"):
            await post(client, SESSION, EVENTS)
        await post(client, SESSION, EVENTS)
    within, without = came
    assert within.headers["traceparent"] == parent
    assert within.headers["tracestate"] == "congo=t61"
    assert not {"traceparent", "tracestate"} & set(without.headers)


@pytest.mark.parametrize("status", [400, 401, 404, 409, 413, 429, 500, 529])
async def test_a_refusal_is_the_sdks(status: int) -> None:
    body = {"type": "error", "error": {"type": "some_error", "message": "because"}}
    answers = client_of(lambda _: httpx2.Response(status, json=body, headers={"retry-after": "7"}))
    async with answers as client:
        with pytest.raises(anthropic.APIStatusError) as theirs:
            await through_sdk(client, SESSION, EVENTS)
        with pytest.raises(anthropic.APIStatusError) as ours:
            await post(client, SESSION, EVENTS)
    assert type(ours.value) is type(theirs.value)
    assert str(ours.value) == str(theirs.value)
    assert (ours.value.type, ours.value.body) == (theirs.value.type, theirs.value.body)
    assert ours.value.response.headers["retry-after"] == "7"


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (httpx2.ReadTimeout("slow"), anthropic.APITimeoutError),
        (httpx2.ReadError("gone"), anthropic.APIConnectionError),
    ],
)
async def test_what_breaks_on_the_way_is_the_sdks_too(
    error: Exception, name: type[Exception]
) -> None:
    asked = 0

    def fail(_: httpx2.Request) -> httpx2.Response:
        nonlocal asked
        asked += 1
        raise error

    async with client_of(fail) as client:
        with pytest.raises(name):
            await post(client, SESSION, EVENTS)
    assert asked == 1


PAGES = [Page(48), Page(20, ("user.message",)), Page(200, ("a.b", "c"), "next=?&/")]


async def listed_by_sdk(client: AsyncAnthropic, session: str, about: Page) -> bytes:
    """The same page, by the SDK's own method."""
    more: dict[str, Any] = {"types": list(about.types)} if about.types else {}
    if about.page:
        more["page"] = about.page
    raw = client.beta.sessions.events.with_raw_response
    response = await raw.list(session, order="desc", limit=about.limit, **more)
    return await response.read()


@pytest.mark.parametrize("about", PAGES)
async def test_a_list_is_asked_for_as_the_sdk_asks(about: Page) -> None:
    came = list[httpx2.Request]()

    def answer(request: httpx2.Request) -> httpx2.Response:
        came.append(request)
        return httpx2.Response(200, json={"data": [{"id": "sevt_1"}]})

    async with client_of(answer) as client:
        first = await listed_by_sdk(client, SESSION, about)
        for _ in range(2):
            assert await newest(client, SESSION, about) == first
    sdks, *ours = came
    assert [told(request) for request in ours] == [told(sdks)] * 2
    assert not any(request.content for request in ours)


def refused(status: int) -> Callable[[httpx2.Request], httpx2.Response]:
    """An API that answers so, with an error document."""
    body = {"type": "error", "error": {"type": "some_error", "message": "because"}}
    headers = {"request-id": "req_1", "anthropic-organization-id": "org_1"}
    return lambda _: httpx2.Response(status, json=body if status >= 400 else {}, headers=headers)


def broken(_: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("nobody there")


def late(_: httpx2.Request) -> httpx2.Response:
    raise httpx2.ReadTimeout("nothing came")


def untyped(_: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(502, text="bad gateway")


@pytest.mark.parametrize(
    "answer", [refused(200), refused(404), refused(529), untyped, broken, late]
)
async def test_the_span_of_a_kept_trace_is_the_sdks(
    answer: Callable[[httpx2.Request], httpx2.Response],
) -> None:
    spans = InMemorySpanExporter()
    settings = TelemetrySettings(turnstile_traces_per_second=1_000)
    tracing = telemetry.start("worker", "one", settings, None, exporter=spans)
    about = PAGES[1]
    try:
        async with client_of(answer) as client:
            asked = client.with_options(max_retries=0)
            for call in (
                lambda: through_sdk(asked, SESSION, EVENTS),
                lambda: post(client, SESSION, EVENTS),
                lambda: listed_by_sdk(asked, SESSION, about),
                lambda: newest(client, SESSION, about),
            ):
                with telemetry.span("provider.send"), contextlib.suppress(anthropic.APIError):
                    await call()
        assert tracing.flush()
    finally:
        tracing.shutdown()
    calls = [s for s in spans.get_finished_spans() if s.name.startswith("anthropic.")]
    sent, ours, theirs, mine = map(seen, calls)
    assert ours == sent
    assert mine == theirs


def seen(span: ReadableSpan) -> tuple[object, ...]:
    """All of a span but its ids and times."""
    scope = span.instrumentation_scope
    status = span.status.status_code, span.status.description
    return span.name, dict(span.attributes or {}), span.kind, status, span.events, scope


@pytest.mark.parametrize(("status", "posts"), [(307, 2), (308, 2), (302, 1)])
async def test_what_was_not_done_here_is_asked_where_it_belongs(status: int, posts: int) -> None:
    """A redirect that keeps the method is followed, as the SDK does; after another one nobody knows what became of
    the message, and it is not sent again."""
    there = "http://elsewhere/v1"
    came = list[str]()

    def answer(request: httpx2.Request) -> httpx2.Response:
        came.append(f"{request.method} {request.url.host}")
        if request.url.host == "elsewhere":
            return httpx2.Response(200, json={"data": []})
        return httpx2.Response(status, headers={"location": there})

    async with client_of(answer) as client:
        if posts == 1:
            with pytest.raises(anthropic.APIStatusError):
                await post(client, SESSION, EVENTS)
        else:
            await post(client, SESSION, EVENTS)
        sent = [line for line in came if line.startswith("POST")]
        assert sent.count("POST elsewhere") == posts - 1
        assert await newest(client, SESSION, Page(1)) == b'{"data":[]}'
