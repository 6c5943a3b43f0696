"""The driver under the governor, on the SDK's own client: lanes, 429, a restart with 300 sessions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import anthropic
import httpx2
import pytest
from anthropic import AsyncAnthropic

from services.agent_worker.governor.governor import Governor, in_lane, tenant, working_for
from services.agent_worker.governor.settings import PUBLISHED, RateSettings
from services.agent_worker.governor.supply import BACKGROUND, CREATE, LIST, SEND, URGENT
from services.agent_worker.ports import ProviderFailure
from services.agent_worker.provider.anthropic import AnthropicProvider
from services.agent_worker.provider.client import LANES, CountingClient, lane_of
from services.agent_worker.provider.failures import failure, may_have_landed
from services.agent_worker.provider.opening import Openings
from services.agent_worker.provider.parts import Parts
from shared.clock import utcnow
from shared.session import decide
from shared.session.state import SessionState, initial
from tests.builders import SESSION, TENANT, bound, turn
from tests.fakes.profiles import MemoryProfiles
from tests.fakes.releases import MemoryReleases
from tests.fakes.tokens import MemoryTokens
from tests.unit.agent_worker.governor.worlds import busiest_minute, now
from tests.unit.agent_worker.virtual_time import virtual

pytestmark = pytest.mark.unit
SESSIONS = 300


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK looks up the platform's name in a thread, which virtual time knows nothing of."""

    def inline(function: Callable[[], str]) -> Callable[[], Awaitable[str]]:
        async def call() -> str:
            return function()

        return call

    monkeypatch.setattr("anthropic._base_client.asyncify", inline)


class Silence(httpx2.AsyncByteStream):
    """An event stream that is open and says nothing."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        await asyncio.sleep(3_600)
        yield b""


class Api:
    """Answers everything in a tenth of a second, and notes when it was asked what."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, str]] = []
        self.refusals: list[httpx2.Response] = []

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append((now(), f"{request.method} {request.url.path}"))
        await asyncio.sleep(0.1)
        if self.refusals:
            return self.refusals.pop()
        if request.url.path.endswith("/stream"):
            return httpx2.Response(200, stream=Silence())
        if request.method == "POST" or request.url.path.endswith("/events"):
            return httpx2.Response(200, json={"data": [], "next_page": None})
        return httpx2.Response(200, json={"id": "sesn_1", "status": "running", "archived_at": None})


class Worker:
    """One worker's driver on `api`."""

    def __init__(self, api: Api, *, patience: float = 60.0, per_minute: int = 1_200) -> None:
        self.governor = Governor(
            {"requests": per_minute, "creates": 300},
            lambda plan: MemoryTokens(plan, now),
            patience=patience,
            chance=lambda: 0.5,
            monotonic=now,
        )
        http = CountingClient(transport=httpx2.MockTransport(api), governor=self.governor)
        self.client = AsyncAnthropic(
            api_key="key", base_url="http://provider", max_retries=0, http_client=http
        )
        openings = Openings(
            self.client,
            Parts(
                self.client,
                agent="a",
                environment="e",
                model="m",
                releases=MemoryReleases(),
            ),
        )
        self.provider = AnthropicProvider(
            self.client, openings, MemoryProfiles(), clock=utcnow, chance=lambda: 0.5
        )


def running() -> SessionState:
    asked = decide(initial(TENANT, SESSION), turn("t1")).state
    return decide(asked, bound()).state


@virtual
async def test_a_restart_with_300_sessions_stays_under_the_limit() -> None:
    api = Api()
    worker = Worker(api)
    async with AsyncExitStack() as stack:
        feeds = []
        for n in range(SESSIONS):
            with working_for(f"tenant-{n % 7}"):
                watching = worker.provider.watch(running(), fresh=False, on_preview=lambda _: None)
                feeds.append(await stack.enter_async_context(watching))
        await asyncio.sleep(0.3)
        assert len(api.asked) < 150  # no storm
        await asyncio.gather(*(feed.opened() for feed in feeds))
    # Each opens its stream, reads its list, and asks whether the session lives.
    assert len(api.asked) == 3 * SESSIONS
    assert busiest_minute([at for at, _ in api.asked]) <= 1_200
    assert max(at for at, _ in api.asked) < 60.0


@virtual
async def test_an_interrupt_goes_at_once_while_300_sessions_reconnect() -> None:
    api = Api()
    worker = Worker(api)
    async with AsyncExitStack() as stack:
        for _ in range(SESSIONS):
            watching = worker.provider.watch(running(), fresh=False, on_preview=lambda _: None)
            await stack.enter_async_context(watching)
        await asyncio.sleep(5.0)
        began = now()
        await worker.provider.interrupt(running())
        assert now() - began < 0.25


@virtual
async def test_a_request_that_may_not_go_is_a_failure_that_did_not_land() -> None:
    api = Api()
    worker = Worker(api, patience=2.0)
    worker.governor.refused(SEND, 30.0)
    with pytest.raises(ProviderFailure) as caught:
        await worker.provider.send(running(), "hello", look=False)
    assert caught.value.reason == "rate_governed"
    assert not caught.value.final
    assert caught.value.retry_after == pytest.approx(30.0, abs=0.2)
    assert api.asked == []


@virtual
async def test_a_429_holds_back_those_who_come_after_in_its_lane() -> None:
    api = Api()
    worker = Worker(api)
    api.refusals.append(httpx2.Response(429, headers={"retry-after": "4"}, json={}))
    with pytest.raises(ProviderFailure) as caught:
        await worker.provider.send(running(), "hello", look=False)
    assert caught.value.retry_after == 4.0
    await worker.provider.interrupt(running())
    assert now() < 0.5
    await worker.provider.send(running(), "hello", look=False)
    assert api.asked[-1][0] == pytest.approx(4.1, abs=0.6)


def test_the_sdk_makes_a_refusal_of_what_the_governor_holds() -> None:
    request = httpx2.Request("POST", "http://provider/v1/sessions/s/events")
    error = anthropic.RateLimitError(
        "held", response=httpx2.Response(429, request=request), body=None
    )
    assert not may_have_landed(error)
    assert failure(error).retry_after is None


def test_lanes_go_by_what_is_asked_unless_the_task_was_put_in_one() -> None:
    assert lane_of("events.send") == SEND
    assert lane_of("events.list") == LIST
    assert lane_of("sessions.archive") == BACKGROUND
    assert lane_of("other") == BACKGROUND
    with in_lane(URGENT):
        assert lane_of("events.list") == URGENT
        assert lane_of("sessions.create") == CREATE
    assert lane_of("events.list") == LIST
    assert set(LANES.values()) >= {SEND, LIST, CREATE}


def test_work_is_its_tenants_until_the_block_ends() -> None:
    with working_for("acme"):
        assert tenant() == "acme"
    assert tenant() == ""


NAMES = ("TURNSTILE_PROVIDER_REQUESTS_PER_MINUTE", "TURNSTILE_PROVIDER_CREATES_PER_MINUTE")


@pytest.mark.parametrize(
    ("base_url", "given", "requests"),
    [
        (None, None, PUBLISHED["requests"]),
        ("https://api.anthropic.com", None, PUBLISHED["requests"]),
        ("http://127.0.0.1:8090", None, 0),
        ("http://127.0.0.1:8090", "600", 600),
        (None, "0", 0),
    ],
)
def test_the_published_limits_hold_where_the_api_itself_is_asked(
    base_url: str | None, given: str | None, requests: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(NAMES[0], raising=False)
    if given is not None:
        monkeypatch.setenv(NAMES[0], given)
    assert RateSettings().limits(base_url)["requests"] == requests


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_that_can_not_be_shared_out_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "5")
    with pytest.raises(ValueError, match=f"{name} must be 0"):
        RateSettings()
