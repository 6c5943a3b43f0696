"""Vaults over HTTP: the tenant's own and no other's, and secrets that go in and never come out."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from shared.ownership import Binding
from tests.unit.gateway.desk import Desk

pytestmark = pytest.mark.unit
CANARY = "sk-canary-4711-never-shown"
URL = "https://mcp.example/sse"
BEARER = {"type": "static_bearer", "token": CANARY, "mcp_server_url": URL}
VARIABLE = {
    "type": "environment_variable",
    "secret_name": "API_KEY",
    "secret_value": CANARY,
    "networking": {"type": "limited", "allowed_hosts": ["api.example"]},
}
OAUTH = {
    "type": "mcp_oauth",
    "access_token": CANARY,
    "mcp_server_url": URL,
    "expires_at": "2027-01-01T00:00:00Z",
    "refresh": {
        "client_id": "client_1",
        "refresh_token": CANARY,
        "token_endpoint": "https://auth.example/token",
        "token_endpoint_auth": {"type": "client_secret_post", "client_secret": CANARY},
    },
}


async def made(desk: Desk, **more: str) -> str:
    async with desk.client() as client:
        answer = await client.post("/v1/vaults", json={"display_name": "Ada's", **more})
    assert answer.status_code == 201
    return str(answer.json()["vault_id"])


async def test_a_vault_is_the_tenants_that_made_it() -> None:
    desk = Desk()
    vault = await made(desk, project="web", user_id="u1")
    shown = {
        "vault_id": vault,
        "display_name": "Ada's",
        "project": "web",
        "user_id": "u1",
        "created_at": "2026-11-21T12:00:00.000000Z",
    }
    async with desk.client() as client:
        assert (await client.get(f"/v1/vaults/{vault}")).json() == shown
        assert (await client.get("/v1/vaults")).json() == {"data": [shown], "next_cursor": None}
        session = {"user_id": "u1", "vault_ids": [vault]}
        assert (await client.post("/v1/sessions", json=session)).status_code == 201
    async with desk.client("key-b") as client:
        assert (await client.get("/v1/vaults")).json()["data"] == []
        session = {"user_id": "u1", "vault_ids": [vault]}
        assert (await client.post("/v1/sessions", json=session)).status_code == 404


async def test_where_the_provider_takes_no_oauth_neither_a_credential_nor_a_link_is_made() -> None:
    desk = Desk(takes_oauth=False)
    vault, url = await made(desk), "https://mcp.example/sse"
    oauth = {"type": "mcp_oauth", "access_token": "a-token-of-oauth", "mcp_server_url": url}
    bearer = {"type": "static_bearer", "token": "a-token-of-a-bearer", "mcp_server_url": url}
    async with desk.client() as client:
        path = f"/v1/vaults/{vault}"
        for answer in (
            await client.post(f"{path}/credentials", json={"auth": oauth}),
            await client.post(f"{path}/connect", json={"mcp_server_url": url}),
        ):
            assert answer.status_code == 400, answer.text
            assert answer.json()["type"] == "urn:turnstile:problem:refused_by_provider"
            assert "use a static_bearer" in answer.text
        answer = await client.post(f"{path}/credentials", json={"auth": bearer})
        assert answer.status_code == 201
    assert [one.type for one in desk.vaults.vaults[vault].values()] == ["static_bearer"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/credentials"),
        ("POST", "/credentials"),
        ("DELETE", "/credentials/vcrd_2"),
        ("POST", "/credentials/vcrd_2/rotate"),
        ("POST", "/credentials/vcrd_2/validate"),
    ],
)
async def test_another_tenants_vault_is_not_there(method: str, path: str) -> None:
    desk = Desk()
    vault = await made(desk)
    async with desk.client() as client:
        put = await client.post(f"/v1/vaults/{vault}/credentials", json={"auth": BEARER})
        assert put.status_code == 201
    bodies = {
        "/credentials": {"auth": BEARER},
        "rotate": {"auth": {"type": "static_bearer", "token": "x"}},
    }
    body = bodies.get(path) or bodies.get(path.rpartition("/")[2])
    for asked in (vault, "vlt_of_nobody"):
        async with desk.client("key-b") as client:
            sent = body if method == "POST" else None
            answer = await client.request(method, f"/v1/vaults/{asked}{path}", json=sent)
        assert answer.status_code == 404
        assert answer.json()["type"] == "urn:turnstile:problem:unknown_vault"
    assert list(desk.vaults.held.values()) == [[CANARY]]


@pytest.mark.parametrize(
    ("auth", "secrets"),
    [(BEARER, 1), (VARIABLE, 1), (OAUTH, 3)],
    ids=["bearer", "variable", "oauth"],
)
async def test_secrets_go_to_the_provider_and_come_back_never(
    auth: dict[str, Any], secrets: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    desk = Desk()
    vault = await made(desk)
    path = f"/v1/vaults/{vault}/credentials"
    async with desk.client() as client:
        put = await client.post(path, json={"auth": auth, "display_name": "it"})
        assert put.status_code == 201, put.text
        one = put.json()
        assert desk.vaults.held[one["credential_id"]] == [CANARY] * secrets
        assert one["type"] == auth["type"]
        listed = await client.get(path)
        assert listed.json() == {"data": [one]}
        fields = {
            "static_bearer": "token",
            "environment_variable": "secret_value",
            "mcp_oauth": "access_token",
        }
        new = {"type": auth["type"], fields[auth["type"]]: f"{CANARY}-2"}
        turned = await client.post(f"{path}/{one['credential_id']}/rotate", json={"auth": new})
        assert turned.status_code == 200, turned.text
        assert desk.vaults.held[one["credential_id"]] == [f"{CANARY}-2"]
        tried = await client.post(f"{path}/{one['credential_id']}/validate")
        again = await client.post(path, json={"auth": auth})
        assert again.status_code == 409
        gone = await client.delete(f"{path}/{one['credential_id']}")
        assert gone.json() == {"id": one["credential_id"]}
        late = await client.post(f"{path}/{one['credential_id']}/rotate", json={"auth": new})
        assert late.status_code == 404
    for answer in (put, listed, turned, tried, again, gone, late):
        assert CANARY not in answer.text
    assert CANARY not in caplog.text
    assert desk.inputs.published == []


# A secret where it should not be: none of it is told, and what is wrong is.
MISPLACED: dict[str, tuple[Any, str]] = {
    "as a type": ({**BEARER, "type": CANARY}, "auth.type"),
    "as a field": ({**BEARER, CANARY: 1}, "auth"),
    "as a field of a field": ({**OAUTH, "refresh": {CANARY: CANARY}}, "auth.refresh"),
    "as a list": ({**BEARER, "token": [CANARY]}, "auth.token"),
    "as an object": ({**BEARER, "token": {CANARY: CANARY}}, "auth.token"),
    "as a server": ({**BEARER, "mcp_server_url": CANARY}, "auth.mcp_server_url"),
    "in a server": (
        {**BEARER, "mcp_server_url": f"https://u:{CANARY}@a.b/c"},
        "auth.mcp_server_url",
    ),
    "as a variable": ({**VARIABLE, "secret_name": CANARY}, "auth.secret_name"),
    "as a network": ({**VARIABLE, "networking": {"type": CANARY}}, "auth.networking.type"),
    "as a host": (
        {**VARIABLE, "networking": {"type": "limited", "allowed_hosts": CANARY}},
        "auth.networking.allowed_hosts",
    ),
    "as the auth": (CANARY, "auth"),
    "half a character": ({**BEARER, "token": CANARY + "\ud800"}, "auth.token"),
}


@pytest.mark.parametrize("name", MISPLACED)
async def test_a_secret_in_the_wrong_place_is_not_echoed(name: str) -> None:
    auth, field = MISPLACED[name]
    desk = Desk()
    vault = await made(desk)
    body = json.dumps({"auth": auth}).encode()
    async with desk.client() as client:
        for path in (f"/v1/vaults/{vault}/credentials", f"/v1/vaults/{vault}/credentials/v/rotate"):
            answer = await client.post(path, content=body)
            assert answer.status_code == 400
            assert CANARY not in answer.text
            if path.endswith("credentials"):
                assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert desk.vaults.held == {}


@pytest.mark.parametrize(
    "body", [CANARY, f'{{"auth": "{CANARY}', f'{{"{CANARY}": 1}}', f'["{CANARY}"]']
)
async def test_a_body_that_is_none_is_not_echoed(body: str) -> None:
    desk = Desk()
    vault = await made(desk)
    async with desk.client() as client:
        answer = await client.post(f"/v1/vaults/{vault}/credentials", content=body.encode())
    assert answer.status_code == 400
    assert CANARY not in answer.text


async def test_a_vault_is_deleted_with_what_it_holds() -> None:
    desk = Desk()
    vault = await made(desk)
    async with desk.client() as client:
        assert (await client.delete(f"/v1/vaults/{vault}")).json() == {"id": vault}
        assert (await client.get(f"/v1/vaults/{vault}")).status_code == 404
    assert desk.vaults.vaults == {}
    assert desk.owners.rows == {}


async def test_a_vault_that_is_not_deleted_stays_the_tenants() -> None:
    desk = Desk()
    vault = await made(desk)
    desk.vaults.down = True
    async with desk.client() as client:
        answer = await client.delete(f"/v1/vaults/{vault}")
        assert answer.status_code == 503
        assert answer.json()["type"] == "urn:turnstile:problem:provider_unavailable"
    assert ("vault", vault) in desk.owners.rows


async def test_vaults_are_listed_page_by_page() -> None:
    desk = Desk()
    for number in range(5):
        id = f"vlt_{number}"
        desk.owners.rows["vault", id] = Binding(kind="vault", id=id, tenant_id="acme", label="x")
    seen: list[str] = []
    async with desk.client() as client:
        query: dict[str, str] = {"limit": "2"}
        while True:
            page = (await client.get("/v1/vaults", params=query)).json()
            seen += [one["vault_id"] for one in page["data"]]
            if page["next_cursor"] is None:
                break
            query["cursor"] = page["next_cursor"]
    assert seen == [f"vlt_{number}" for number in range(5)]


async def test_who_may_only_read_changes_nothing() -> None:
    desk = Desk()
    vault = await made(desk)
    async with desk.client("key-r") as client:
        assert (await client.get(f"/v1/vaults/{vault}")).status_code == 200
        answer = await client.post(f"/v1/vaults/{vault}/credentials", json={"auth": BEARER})
        assert answer.status_code == 403
        assert (await client.delete(f"/v1/vaults/{vault}")).status_code == 403


async def test_a_cursor_that_is_none_is_refused() -> None:
    async with Desk().client() as client:
        answer = await client.get("/v1/vaults", params={"cursor": ""})
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == ["cursor"]
