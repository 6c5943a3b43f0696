"""What is another tenant's is not there: 404 that names the field, and nothing is published."""

from __future__ import annotations

from typing import Any

import pytest

from shared.ownership import Binding
from tests.fakes.owners import MemoryOwners
from tests.unit.gateway.desk import Desk

pytestmark = pytest.mark.unit
FILE = [{"type": "document", "source": {"type": "file", "file_id": "file_b"}}]
TURNS = "/v1/sessions/ses_1/turns"
THEIRS = [
    Binding(kind="agent", id="agent_b", tenant_id="other"),
    Binding(kind="vault", id="v_b", tenant_id="other"),
    Binding(kind="file", id="file_b", tenant_id="other"),
    Binding(kind="memory_store", id="store_b", tenant_id="other"),
    Binding(kind="vault", id="v_a", tenant_id="acme"),
]
STRANGE: dict[str, tuple[str, dict[str, Any], str]] = {
    "an agent": ("/v1/sessions", {"user_id": "u1", "agent": "agent_b"}, "agent"),
    "a version of it": ("/v1/sessions", {"user_id": "u1", "agent": "agent_b@3"}, "agent"),
    "an agent to prewarm": ("/v1/prewarm", {"user_id": "u1", "agent": "agent_b"}, "agent"),
    "a vault beside our own": (
        "/v1/sessions",
        {"user_id": "u1", "vault_ids": ["v_a", "v_b"]},
        "vault_ids[1]",
    ),
    "a file as a resource": (
        "/v1/sessions",
        {"user_id": "u1", "resources": [{"type": "file", "file_id": "file_b"}]},
        "resources[0].file_id",
    ),
    "memory behind a repository": (
        "/v1/sessions",
        {
            "user_id": "u1",
            "resources": [
                {"type": "github_repository", "url": "https://github.com/acme/shop"},
                {"type": "memory_store", "memory_store_id": "store_b"},
            ],
        },
        "resources[1].memory_store_id",
    ),
    "a file in a turn": (TURNS, {"content": FILE}, "content[0].source.file_id"),
    "a file in a tool's result": (
        "/v1/sessions/ses_1/tool_results",
        {"custom_tool_use_id": "sevt_1", "content": FILE},
        "content[0].source.file_id",
    ),
}


async def opened() -> Desk:
    """A desk with a session of acme's, and things of two tenants."""
    desk = Desk(owners=MemoryOwners(THEIRS))
    async with desk.client() as client:
        answer = await client.post("/v1/sessions", json={"user_id": "u1", "session_id": "ses_1"})
        assert answer.status_code == 201
    return desk


@pytest.mark.parametrize("name", STRANGE)
async def test_what_is_another_tenants_is_not_there(name: str) -> None:
    path, body, field = STRANGE[name]
    desk = await opened()
    published = len(desk.inputs.published)
    async with desk.client() as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == 404
    problem = answer.json()
    assert problem["type"] == "urn:turnstile:problem:unknown_reference"
    assert [error["field"] for error in problem["errors"]] == [field]
    assert len(desk.inputs.published) == published
    assert "other" not in answer.text


async def test_what_is_nobodys_becomes_ours_by_naming_it() -> None:
    desk = await opened()
    async with desk.client() as client:
        asked = {"user_id": "u1", "vault_ids": ["v_new"], "agent": "agent_new"}
        assert (await client.post("/v1/sessions", json=asked)).status_code == 201
    async with desk.client("key-b") as client:
        answer = await client.post("/v1/sessions", json={"user_id": "u9", "agent": "agent_new"})
        assert answer.status_code == 201
        answer = await client.post("/v1/sessions", json={"user_id": "u9", "vault_ids": ["v_new"]})
        assert answer.status_code == 404


async def test_what_is_nobodys_may_be_refused() -> None:
    desk = Desk(owners=MemoryOwners(THEIRS), unbound="refuse")
    async with desk.client() as client:
        for named in ({"vault_ids": ["v_new"]}, {"agent": "agent_new"}):
            answer = await client.post("/v1/sessions", json={"user_id": "u1", **named})
            assert answer.status_code == 404
        answer = await client.post("/v1/sessions", json={"user_id": "u1", "vault_ids": ["v_a"]})
        assert answer.status_code == 201


async def test_who_names_nothing_asks_nothing() -> None:
    desk = await opened()
    async with desk.client() as client:
        answer = await client.post(TURNS, json={"content": "file_b"})
        assert answer.status_code == 202
        text = [{"type": "text", "text": "file_b"}]
        answer = await client.post(TURNS, json={"content": text})
        assert answer.status_code == 202
    assert desk.owners.asked == []


async def test_without_a_database_who_names_something_is_told_to_come_again() -> None:
    desk = await opened()
    desk.owners.down = True
    async with desk.client() as client:
        answer = await client.post(TURNS, json={"content": FILE})
        assert answer.status_code == 503
        assert "Retry-After" in answer.headers
        assert (await client.post(TURNS, json={"content": "hello"})).status_code == 202
