"""What the API refuses, in its own words; the whole application in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from infra.simulator.api.app import build
from infra.simulator.api.limits import Limits
from infra.simulator.errors import ApiError
from infra.simulator.faults.rules import Faults
from tests.unit.simulator.provider import a_world, message

pytestmark = pytest.mark.unit

BETA = {"anthropic-beta": "managed-agents-2026-04-01", "anthropic-version": "2026-10-21"}
KEY = {**BETA, "x-api-key": "k"}


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    app = build(a_world(api_key="k"), Faults(1))
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://simulator") as client:
        yield client


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"title": "no agent"}, "agent"),
        ({"agent": "a", "environment_id": "e", "tenant": "x"}, "tenant"),
        ({"agent": "a", "environment_id": "e", "metadata": {"k": "v" * 513}}, "metadata"),
        (
            {"agent": "a", "environment_id": "e", "metadata": {f"{n}": "" for n in range(17)}},
            "metadata",
        ),
        (
            {"agent": "a", "environment_id": "e", "initial_events": [message("x")] * 51},
            "initial_events",
        ),
        (
            {"agent": "a", "environment_id": "e", "initial_events": [{"type": "user.interrupt"}]},
            "initial",
        ),
        (
            {
                "agent": "a",
                "environment_id": "e",
                "budget": {"type": "limit", "max_list_cost": {"amount": 5, "currency": "USD"}},
            },
            "amount",
        ),
    ],
)
async def test_bodies_are_checked(http: httpx2.AsyncClient, body: Any, field: str) -> None:
    answer = await http.post("/v1/sessions?beta=true", json=body, headers=KEY)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert field in error["message"]
    assert answer.json()["request_id"] == answer.headers["request-id"]


@pytest.mark.parametrize(
    ("headers", "status", "word"),
    [
        (BETA, 401, "authorization"),
        ({**BETA, "authorization": "Bearer other"}, 401, "authorization"),
        ({"x-api-key": "k", "anthropic-version": "2023-06-01"}, 400, "anthropic-beta"),
        ({**BETA, "x-api-key": "k", "anthropic-version": "2020-01-01"}, 400, "anthropic-version"),
        ({**BETA, "x-api-key": "k"}, 404, "session"),
    ],
)
async def test_headers_are_checked(
    http: httpx2.AsyncClient, headers: dict[str, str], status: int, word: str
) -> None:
    answer = await http.get("/v1/sessions/sesn_none", headers=headers)
    assert answer.status_code == status
    assert word in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("PUT", "/v1/sessions", 405),
        ("GET", "/v1/sessions?user=1", 400),
        ("GET", "/v1/sessions?limit=0", 400),
        ("GET", "/v1/sessions?limit=x", 400),
        ("GET", "/v1/sessions?order=up", 400),
        ("GET", "/v1/sessions?statuses[]=asleep", 400),
        ("GET", "/v1/sessions?created_at[gt]=yesterday", 400),
        ("GET", "/v1/sessions?page=xyz", 400),
        ("GET", "/v1/sessions?beta=true&statuses[]=idle&statuses[]=running", 200),
    ],
)
async def test_paths_and_queries_are_checked(
    http: httpx2.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await http.request(method, path, headers=KEY)
    assert answer.status_code == status
    assert answer.headers["request-id"].startswith("req_01")
    if status != 200:
        assert answer.json()["type"] == "error"


@pytest.mark.parametrize(
    ("event", "word"),
    [
        (message(""), "text"),
        (message("  \n"), "white space"),
        ({"type": "user.message", "content": []}, "content"),
        ({"type": "user.message", "content": [{"type": "redacted"}]}, "redacted"),
        ({"type": "user.message", "content": "text"}, "content"),
        ({**message("x"), "metadata": {}}, "metadata"),
        ({"type": "agent.message", "content": []}, "agent.message"),
        ({"type": "user.interrupt", "session_thread_id": "sthr_x"}, "sthr_x"),
        ({"type": "user.tool_confirmation", "tool_use_id": "x", "result": "maybe"}, "maybe"),
        ({"type": "user.tool_confirmation", "tool_use_id": "x", "result": "deny"}, "tool_use_id"),
        ({"type": "user.custom_tool_result", "custom_tool_use_id": "x"}, "custom_tool_use_id"),
        ({"type": "user.tool_result", "tool_use_id": "x"}, "self_hosted"),
        (message("[[script: typo]]"), "typo"),
    ],
)
async def test_events_are_checked_and_none_is_filed(
    http: httpx2.AsyncClient, event: Any, word: str
) -> None:
    body = {"agent": "agent_1", "environment_id": "env_1"}
    session = (await http.post("/v1/sessions", json=body, headers=KEY)).json()["id"]
    path = f"/v1/sessions/{session}/events"
    answer = await http.post(path, json={"events": [message("good"), event]}, headers=KEY)
    assert answer.status_code == 400
    assert word in answer.json()["error"]["message"]
    assert (await http.get(path, headers=KEY)).json() == {"data": [], "next_page": None}


async def test_a_system_message_must_follow_input(http: httpx2.AsyncClient) -> None:
    system = {"type": "system.message", "content": [{"type": "text", "text": "x"}]}
    body = {"agent": "agent_1", "environment_id": "env_1"}
    session = (await http.post("/v1/sessions", json=body, headers=KEY)).json()["id"]
    path = f"/v1/sessions/{session}/events"
    for events, status in (
        ([system], 400),
        ([system, message("x")], 400),
        ([message("x"), system], 200),
    ):
        answer = await http.post(path, json={"events": events}, headers=KEY)
        assert answer.status_code == status


async def test_a_body_must_be_json_and_not_too_large(http: httpx2.AsyncClient) -> None:
    plain = await http.post("/v1/agents", content="{}", headers=KEY)
    assert "content-type" in plain.json()["error"]["message"]
    typed = {**KEY, "content-type": "application/json"}
    broken = await http.post("/v1/agents", content="{", headers=typed)
    assert "not valid JSON" in broken.json()["error"]["message"]
    big = await http.post("/v1/agents", content=b" " * (33 * 1024 * 1024), headers=typed)
    assert (big.status_code, big.json()["error"]["type"]) == (413, "request_too_large")


def test_rate_limits_name_the_wait() -> None:
    limits = Limits(now=0.0)
    for _ in range(300):
        limits.check("POST", "/v1/sessions", 0.0)
    with pytest.raises(ApiError) as refusal:
        limits.check("POST", "/v1/sessions", 0.0)
    assert (refusal.value.status, refusal.value.headers) == (429, {"retry-after": "1"})
    limits.check("POST", "/v1/sessions", 1.0)
    limits.check("POST", "/v1/sessions/s/events", 1.0)
