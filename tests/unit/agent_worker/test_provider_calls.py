"""Calls to the provider are counted by operation and outcome, whichever way they end."""

from __future__ import annotations

import asyncio
import itertools

import httpx2
import pytest
from anthropic import AsyncAnthropic

from services.agent_worker.leases import under_lease
from services.agent_worker.provider.client import CountingClient, operation_of
from services.agent_worker.provider.send import send_message
from shared import metrics
from shared.errors import Fenced
from shared.session import decide, initial
from tests.builders import SESSION, TENANT, bound, turn
from tests.fakes.profiles import MemoryProfiles

pytestmark = pytest.mark.unit
URL = "http://provider/v1/sessions/sesn_1/events"


def counted(operation: str, outcome: str) -> float:
    labels = {"operation": operation, "outcome": outcome}
    return metrics.read("turnstile_provider_requests_total", labels)


def timed(operation: str) -> float:
    name, labels = "turnstile_provider_request_seconds_count", {"operation": operation}
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        ("POST", "/v1/sessions", "sessions.create"),
        ("GET", "/v1/sessions/threads", "sessions.retrieve"),
        ("POST", "/v1/sessions/sesn_1/archive", "sessions.archive"),
        ("GET", "/v1/sessions/sesn_1/events/stream", "events.stream"),
        ("GET", "/proxy/v1/sessions/sesn_1/threads/sthr_1/stream", "threads.events.stream"),
        ("GET", "/v1/agents", "agents.list"),
        ("PUT", "/v1/sessions", "other"),
        ("GET", "/v1/sessions/sesn_1/events/sevt_1", "other"),
        ("GET", "/", "other"),
    ],
)
def test_a_path_is_named_without_its_ids(method: str, path: str, operation: str) -> None:
    assert operation_of(method, path) == operation


@pytest.mark.parametrize(("status", "outcome"), [(200, "ok"), (404, "http_404"), (529, "http_529")])
async def test_an_answer_is_counted_by_its_status(status: int, outcome: str) -> None:
    before, times = counted("events.send", outcome), timed("events.send")
    answers = httpx2.MockTransport(lambda _: httpx2.Response(status))
    async with CountingClient(transport=answers) as client:
        assert (await client.post(URL)).status_code == status
    assert counted("events.send", outcome) == before + 1
    assert timed("events.send") == times + 1


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(httpx2.ReadTimeout("slow"), "timeout"), (httpx2.ConnectError("gone"), "unreachable")],
)
async def test_a_call_without_an_answer_is_counted_and_still_fails(
    error: httpx2.HTTPError, outcome: str
) -> None:
    def fail(_: httpx2.Request) -> httpx2.Response:
        raise error

    before = counted("events.list", outcome)
    async with CountingClient(transport=httpx2.MockTransport(fail)) as client:
        with pytest.raises(type(error)):
            await client.get(URL)
    assert counted("events.list", outcome) == before + 1


async def test_a_lease_that_runs_out_while_the_list_is_read_holds_the_message_back() -> None:
    """The last look is taken when the bytes are about to leave: the look-up before a send may take its time."""
    made: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        made.append(request.method)
        return httpx2.Response(200, json={"data": [], "next_page": None})

    state = decide(decide(initial(TENANT, SESSION), turn("t1")).state, bound()).state
    http = CountingClient(transport=httpx2.MockTransport(answer))
    async with AsyncAnthropic(api_key="key", max_retries=0, http_client=http) as client:
        with under_lease(lambda: not made), pytest.raises(Fenced, match="lease"):
            await send_message(client, MemoryProfiles(), state, "hello", look=True)
        assert made == ["GET"], "the message left without a lease"
        with under_lease(lambda: True):
            await send_message(client, MemoryProfiles(), state, "hello", look=True)
    assert made == ["GET", "GET", "POST"]


@pytest.mark.parametrize("good_looks", [0, 1])
@pytest.mark.parametrize("content", [b"BODY", b""])
async def test_a_lease_that_runs_out_while_the_request_is_on_its_way_lets_nothing_leave(
    good_looks: int, content: bytes
) -> None:
    """Looked at when the request is let go, and when head and body are written: on a real connection."""
    came, hung_up = bytearray(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.extend(await reader.read())
        writer.close()
        hung_up.set()

    looks = itertools.count(1)
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, CountingClient() as client:
        with under_lease(lambda: next(looks) <= good_looks), pytest.raises(Fenced):
            await client.post(f"http://127.0.0.1:{port}/v1/sessions/s/events", content=content)
        if good_looks:
            async with asyncio.timeout(5):
                await hung_up.wait()
    assert not came
    assert next(looks) == good_looks + 2
