"""Vaults and credentials of the simulator, through the SDK: shaped as it types them, and no secret comes out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest

from tests.integration.simulator_client import Provider, provided

pytestmark = pytest.mark.integration
SERVER = "https://mcp.example/sse"
BEARER: Any = {"type": "static_bearer", "token": "a-bearer-secret", "mcp_server_url": SERVER}
VARIABLE: Any = {
    "type": "environment_variable",
    "secret_name": "API_KEY",
    "secret_value": "a-variable-secret",
    "networking": {"type": "limited", "allowed_hosts": ["api.example"]},
}


def variable(name: str) -> Any:
    return {**VARIABLE, "secret_name": name}


def oauth(access: str, refresh: str | None = None, url: str = SERVER) -> Any:
    auth: Any = {"type": "mcp_oauth", "access_token": access, "mcp_server_url": url}
    if refresh is not None:
        auth["refresh"] = {
            "client_id": "client_1",
            "refresh_token": refresh,
            "token_endpoint": "https://auth.example/token",
            "token_endpoint_auth": {"type": "client_secret_post", "client_secret": "a-client"},
        }
    return auth


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with provided() as found:
        yield found


async def vault_of(provider: Provider) -> str:
    return (await provider.beta.vaults.create(display_name="Ada's")).id


async def test_a_vault_lives_and_dies(provider: Provider) -> None:
    vaults = provider.beta.vaults
    made = await vaults.create(display_name="Ada's", metadata={"a": "b"})
    assert made.id.startswith("vlt_")
    assert (await vaults.retrieve(made.id)).display_name == "Ada's"
    assert (await vaults.update(made.id, display_name="Bob's")).metadata == {"a": "b"}
    assert [one.id async for one in vaults.list()] == [made.id]
    assert (await vaults.archive(made.id)).archived_at is not None
    assert [one.id async for one in vaults.list()] == []
    await vaults.delete(made.id)
    with pytest.raises(anthropic.NotFoundError):
        await vaults.retrieve(made.id)


@pytest.mark.parametrize("auth", [BEARER, VARIABLE, oauth("an-access", "a-refresh")])
async def test_secrets_go_in_and_never_come_out(provider: Provider, auth: Any) -> None:
    credentials = provider.beta.vaults.credentials
    vault = await vault_of(provider)
    made = await credentials.create(vault, auth=auth, display_name="it")
    again = await credentials.retrieve(made.id, vault_id=vault)
    listed = [one async for one in credentials.list(vault)]
    changed = await credentials.update(made.id, vault_id=vault, auth={"type": auth["type"]})
    for one in (made, again, changed, *listed):
        text = one.to_json()
        for secret in ("secret", "an-access", "a-refresh", "a-client"):
            assert f'{secret}"' not in text
        assert one.auth.type == auth["type"]
        assert not one.model_extra
        assert not one.auth.model_extra


async def test_one_credential_for_a_server_and_twenty_in_all(provider: Provider) -> None:
    credentials = provider.beta.vaults.credentials
    vault = await vault_of(provider)
    await credentials.create(vault, auth=BEARER)
    with pytest.raises(anthropic.ConflictError):
        await credentials.create(vault, auth=oauth("another"))
    for number in range(19):
        await credentials.create(vault, auth=variable(f"KEY_{number}"))
    with pytest.raises(anthropic.BadRequestError, match="20"):
        await credentials.create(vault, auth=variable("ONE_MORE"))


@pytest.mark.parametrize(
    "auth",
    [
        {**BEARER, "mcp_server_url": "mcp.example"},
        {**BEARER, "token": ""},
        {**BEARER, "more": "x"},
        {**VARIABLE, "secret_name": "1 B"},
        {key: value for key, value in VARIABLE.items() if key != "networking"},
        {**oauth("a"), "expires_at": "2001-01-01T00:00:00Z"},
        {"type": "basic", "token": "x"},
    ],
)
async def test_what_is_wrong_is_refused(provider: Provider, auth: Any) -> None:
    with pytest.raises(anthropic.BadRequestError):
        await provider.beta.vaults.credentials.create(await vault_of(provider), auth=auth)


@pytest.mark.parametrize(
    ("access", "refresh", "url", "status", "refreshed"),
    [
        ("good", None, SERVER, "valid", None),
        ("refused", "good", SERVER, "invalid", None),
        ("expired", "good", SERVER, "valid", "succeeded"),
        ("expired", "refused", SERVER, "invalid", "failed"),
        ("expired", None, SERVER, "invalid", "no_refresh_token"),
        ("good", None, "https://unreachable.example", "unknown", None),
    ],
)
async def test_an_oauth_credential_can_be_tried(
    provider: Provider, access: str, refresh: str | None, url: str, status: str, refreshed: Any
) -> None:
    credentials = provider.beta.vaults.credentials
    vault = await vault_of(provider)
    made = await credentials.create(vault, auth=oauth(access, refresh, url))
    found = await credentials.mcp_oauth_validate(made.id, vault_id=vault)
    assert found.status == status
    assert found.has_refresh_token == (refresh is not None)
    assert (found.refresh.status if found.refresh else None) == refreshed
    assert not found.model_extra


async def test_what_is_no_oauth_credential_cannot(provider: Provider) -> None:
    credentials = provider.beta.vaults.credentials
    vault = await vault_of(provider)
    made = await credentials.create(vault, auth=BEARER)
    with pytest.raises(anthropic.BadRequestError):
        await credentials.mcp_oauth_validate(made.id, vault_id=vault)
