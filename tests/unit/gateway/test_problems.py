"""Every failure looks alike; health and documents."""

from __future__ import annotations

from typing import Any

import pytest

from services.gateway.http.problems import KNOWN
from tests.unit.gateway.desk import Desk

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/v1/sessions/", 404),
        ("PUT", "/v1/sessions", 405),
        ("GET", "/v1/sessions/ses_1/turns", 405),
        ("GET", "/v1/sessions/ses_1", 404),
    ],
)
async def test_every_problem_has_one_shape(method: str, path: str, status: int) -> None:
    async with Desk().client() as client:
        answer = await client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert KNOWN[body["type"].removeprefix("urn:turnstile:problem:")][0] == status
    if status == 405:
        assert answer.headers["allow"]


async def test_a_bug_says_nothing_about_itself() -> None:
    desk = Desk()

    async def broken(*_: Any) -> None:
        raise RuntimeError("secret words")

    desk.read_model.session = broken  # type: ignore[method-assign, assignment]
    async with desk.client() as client:
        answer = await client.get("/v1/sessions/ses_1")
    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:turnstile:problem:internal"
    assert "secret" not in answer.text


async def test_readiness_names_each_part() -> None:
    desk = Desk()
    async with desk.client(None) as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        desk.archive.down = True
        degraded = await client.get("/readyz")
        assert degraded.status_code == 200
        assert degraded.json()["dependencies"]["clickhouse"]["status"] == "error"
        desk.inputs.down = True
        assert (await client.get("/readyz")).status_code == 503
        assert "turnstile_http_requests_total" in (await client.get("/metrics")).text


async def test_the_documents_name_every_route() -> None:
    async with Desk().client() as client:
        document = (await client.get("/openapi.json")).json()
        topics = (await client.get("/asyncapi.json")).json()
    operations = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    assert ("POST", "/v1/sessions/{session_id}/turns") in operations
    assert len(operations) == 36
    turn = document["paths"]["/v1/sessions/{session_id}/turns"]["post"]
    assert turn["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("NewTurn")
    assert {"202", "400", "401", "404", "409", "413", "503"} <= turn["responses"].keys()
    assert "TextBlock" in document["components"]["schemas"]
    assert topics["asyncapi"].startswith("3.")
