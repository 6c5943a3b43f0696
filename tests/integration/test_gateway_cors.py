"""Pages of other origins: a real browser calls and listens, and strangers' pages are kept out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest
from aiokafka import AIOKafkaProducer

from shared.bus.topics import EVENTS
from tests.browser import CHROMIUM, Page, page
from tests.clickhouse_server import fresh_database
from tests.integration.gateway_process import GatewayProcess, gateway_process
from tests.unit.gateway.desk import an_event

pytestmark = pytest.mark.integration
needs_chromium = pytest.mark.skipif(
    not CHROMIUM, reason="no chromium here: apt-get install chromium"
)
STRANGER = "http://127.0.0.1:1"
ASKED = "authorization, content-type, idempotency-key, last-event-id, traceparent, tracestate"
SESSION = "cors-session"
# Opens a session, posts a turn, streams its events from `Last-Event-ID` on, and reads two refusals.
SCRIPT = """
const call = (path, init = {}) => fetch(gateway + path, {
  ...init, headers: {Authorization: "Bearer key-a", traceparent, tracestate: "page=1", ...init.headers},
});
const post = (path, body, headers = {}) => call(path, {
  method: "POST", body: JSON.stringify(body), headers: {"Content-Type": "application/json", ...headers},
});
const opened = await post("/v1/sessions", {session_id: `${session}-new`, user_id: "u1"});
const turn = await post(`/v1/sessions/${session}/turns`, {content: "hello"}, {"Idempotency-Key": "k 1"});
const streaming = await call(`/v1/sessions/${session}/events`, {headers: {"Last-Event-ID": "0"}});
const reader = streaming.body.pipeThrough(new TextDecoderStream()).getReader();
let heard = "";
while (!heard.includes("id: 8\\n")) heard += (await reader.read()).value;
await reader.cancel();
const refused = await call("/v1/sessions", {headers: {Authorization: "Bearer wrong"}});
const wrong = await post(`/v1/sessions/${session}/turns`, {content: 7});
const gone = await call(`/v1/sessions/${session}`, {method: "DELETE"});
return {
  statuses: [opened, turn, streaming, refused, wrong, gone].map(answer => answer.status),
  turn: await turn.json(), heard, refused: await refused.json(), wrong: await wrong.json(),
  challenge: refused.headers.get("WWW-Authenticate"),
};
"""


@pytest.fixture(scope="module")
async def origin() -> AsyncIterator[Page]:
    """The page that may call."""
    with page() as allowed:
        yield allowed


@pytest.fixture(scope="module")
async def gateway(
    origin: Page, kafka_bootstrap: str, postgres_url: str, clickhouse_url: str
) -> AsyncIterator[GatewayProcess]:
    archive = fresh_database(clickhouse_url)
    settings = {"TURNSTILE_CORS_ORIGINS": f"https://app.example, {origin.origin}"}
    async with gateway_process(kafka_bootstrap, postgres_url, archive, **settings) as running:
        yield running


@pytest.fixture
async def speaking(gateway: GatewayProcess, kafka_bootstrap: str) -> AsyncIterator[None]:
    """Events 1, 2, 3 … of the session are published, one after the other."""

    async def speak() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap)
        async with producer:
            for seq in range(1, 1_000):
                value = an_event(seq, key=("acme", SESSION))
                await producer.send_and_wait(EVENTS.name, value, key=SESSION.encode())
                await asyncio.sleep(0.25)

    task = asyncio.create_task(speak())
    yield
    task.cancel()


@needs_chromium
@pytest.mark.usefixtures("speaking")
async def test_a_page_opens_a_session_posts_a_turn_and_streams_its_events(
    gateway: GatewayProcess, origin: Page
) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    told = await origin.run(SCRIPT, gateway=gateway.url, session=SESSION, traceparent=trace)
    assert told.get("statuses") == [201, 202, 200, 401, 400, 202], told
    assert told["turn"]["session_id"] == SESSION
    ids = [line for line in told["heard"].splitlines() if line.startswith("id: ")]
    assert ids[:8] == [f"id: {seq}" for seq in range(1, 9)]
    assert told["refused"]["type"] == "urn:turnstile:problem:unauthorized"
    assert told["wrong"]["errors"][0]["field"] == "content"
    assert told["challenge"].startswith("Bearer")


@needs_chromium
async def test_a_strangers_page_reads_nothing(gateway: GatewayProcess) -> None:
    script = """
    const headers = {Authorization: "Bearer key-a"};
    const outcomes = [];
    for (const init of [{headers}, {}, {method: "DELETE", headers}])
      outcomes.push(await fetch(`${gateway}/v1/sessions`, init).then(() => "read", e => e.name));
    return outcomes;
    """
    with page() as stranger:
        told = await stranger.run(script, gateway=gateway.url)
    assert told == ["TypeError"] * 3


async def preflight(
    gateway: GatewayProcess, origin: str, path: str = "/v1/sessions", asked: str = ASKED
) -> httpx2.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": asked,
    }
    async with httpx2.AsyncClient(base_url=gateway.url) as client:
        return await client.options(path, headers=headers)


@pytest.mark.parametrize("path", ["/v1/sessions", f"/v1/sessions/{SESSION}/turns", "/nowhere"])
async def test_a_preflight_needs_no_key(gateway: GatewayProcess, path: str) -> None:
    answer = await preflight(gateway, "https://app.example", path)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert "POST" in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert all(name in allowed for name in ASKED.split(", "))
    assert "origin" in answer.headers["vary"].lower()
    assert "access-control-allow-credentials" not in answer.headers


async def test_no_other_origin_is_let_in(gateway: GatewayProcess) -> None:
    for origin in ("https://app.example.evil", "http://app.example", "null", STRANGER):
        answer = await preflight(gateway, origin)
        assert answer.status_code == 400
        assert "access-control-allow-origin" not in answer.headers
        async with gateway.client() as client:
            answer = await client.get("/v1/sessions", headers={"Origin": origin})
        assert answer.status_code == 200, "whoever has a key and no browser may call"
        assert "access-control-allow-origin" not in answer.headers
        assert "origin" in answer.headers["vary"].lower()


async def test_refusals_and_streams_can_be_read_too(gateway: GatewayProcess) -> None:
    origin = {"Origin": "https://app.example"}
    async with gateway.client() as client:
        wish = {"user_id": "u1", "session_id": "cors-plain"}
        assert (await client.post("/v1/sessions", json=wish)).status_code == 201
        for path, key, status in (
            ("/v1/sessions", "wrong", 401),
            ("/v1/nothing", "key-a", 404),
            ("/v1/sessions?limit=x", "key-a", 400),
        ):
            headers = {**origin, "Authorization": f"Bearer {key}"}
            answer = await client.get(path, headers=headers)
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == "https://app.example"
            assert "retry-after" in answer.headers["access-control-expose-headers"].lower()
        path = "/v1/sessions/cors-plain/events"
        async with client.stream("GET", path, headers=origin) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["access-control-allow-origin"] == "https://app.example"
