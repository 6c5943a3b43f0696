"""The gateway's vaults through the real SDK on the simulator; a provider that repeats secrets is not repeated."""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from pydantic import SecretStr

from services.gateway.adapters.vaults import ProviderVaults
from services.gateway.vault_bodies import NewCredential, Rotation
from shared.errors import Rejected, Transient, TurnstileError
from shared.secret import read_secret
from shared.settings import ProviderSettings
from tests.integration.simulator_client import Provider, provided

pytestmark = pytest.mark.integration
CANARY = "sk-canary-4711-never-shown"
URL = "https://mcp.example/sse"


def settings(url: str) -> ProviderSettings:
    return ProviderSettings(anthropic_base_url=url, anthropic_api_key=SecretStr("key"))


def adding(auth: Any) -> NewCredential:
    return msgspec.convert({"auth": auth}, NewCredential, dec_hook=read_secret)


def rotating(auth: Any) -> Rotation:
    return msgspec.convert({"auth": auth}, Rotation, dec_hook=read_secret)


def bearer(token: str = CANARY, url: str = URL) -> NewCredential:
    return adding({"type": "static_bearer", "token": token, "mcp_server_url": url})


def oauth(access: str, refresh: str) -> NewCredential:
    return adding(
        {
            "type": "mcp_oauth",
            "access_token": access,
            "mcp_server_url": URL,
            "refresh": {
                "client_id": "client_1",
                "refresh_token": refresh,
                "token_endpoint": "https://auth.example/token",
                "token_endpoint_auth": {"type": "none"},
            },
        }
    )


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with provided() as found:
        yield found


@pytest.fixture
async def vaults(provider: Provider) -> AsyncIterator[ProviderVaults]:
    made = ProviderVaults(settings(provider.url))
    yield made
    await made.stop()


async def test_a_vault_and_what_is_in_it_live_and_die(
    provider: Provider, vaults: ProviderVaults
) -> None:
    vault = await vaults.create("acme", "Ada's")
    assert (await provider.beta.vaults.retrieve(vault)).metadata == {"turnstile_tenant": "acme"}
    one = await vaults.add(vault, bearer())
    assert (one.type, one.mcp_server_url) == ("static_bearer", URL)
    assert await vaults.credentials(vault) == [one]
    new = rotating({"type": "static_bearer", "token": f"{CANARY}-2"})
    assert (await vaults.rotate(vault, one.credential_id, new)).credential_id == one.credential_id
    await vaults.remove(vault, one.credential_id)
    assert await vaults.credentials(vault) == []
    await vaults.delete(vault)
    await vaults.delete(vault)  # gone is deleted


@pytest.mark.parametrize(
    ("access", "refresh", "status", "http_status", "refreshed"),
    [
        ("good-token", "good-refresh", "valid", None, None),
        ("expired-token", "good-refresh", "valid", None, "succeeded"),
        ("expired-token", "refused-refresh", "invalid", 401, "failed"),
        ("refused-token", "good-refresh", "invalid", 401, None),
    ],
)
async def test_an_oauth_credential_is_tried(
    vaults: ProviderVaults, access: str, refresh: str, status: str, http_status: Any, refreshed: Any
) -> None:
    vault = await vaults.create("acme", "Ada's")
    one = await vaults.add(vault, oauth(access, refresh))
    assert one.refreshable
    found = await vaults.validate(vault, one.credential_id)
    assert (found.status, found.http_status, found.refresh) == (status, http_status, refreshed)
    assert access not in repr(found)


async def test_refusals_are_told_apart(vaults: ProviderVaults) -> None:
    vault = await vaults.create("acme", "Ada's")
    one = await vaults.add(vault, bearer())
    wrong = rotating({"type": "environment_variable", "secret_value": CANARY})
    for asking, reason, words in (
        (vaults.add("vlt_none", bearer()), "unknown_vault", "no such vault"),
        (vaults.remove(vault, "vcrd_none"), "unknown_credential", "no such credential"),
        (vaults.add(vault, bearer()), "credential_exists", "rotate it"),
        (vaults.rotate(vault, one.credential_id, wrong), "refused_by_provider", "static_bearer"),
    ):
        with pytest.raises(Rejected) as caught:
            await asking
        assert caught.value.reason == reason
        assert words in str(caught.value)


ECHOES = {
    "whole": CANARY,
    "the beginning": CANARY[:9],
    "the end": CANARY[-9:],
    "as basic authentication": base64.b64encode(f"client:{CANARY}".encode()).decode(),
    "as hex": CANARY.encode().hex(),
}


@pytest.mark.parametrize("name", ECHOES)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429, 500])
async def test_what_the_provider_repeats_is_not_told(
    provider: Provider,
    vaults: ProviderVaults,
    name: str,
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    vault = await vaults.create("acme", "Ada's")
    echo = {"status": status, "message": f"refused: {ECHOES[name]}", "error_code": ECHOES[name]}
    await provider.faults({"match": {"path": "credentials"}, "fault": {"kind": "respond", **echo}})
    with pytest.raises(TurnstileError) as caught:
        await vaults.add(vault, bearer())
    error = caught.value
    for told in (str(error), repr(error), repr(vars(error)), caplog.text):
        assert ECHOES[name] not in told
    # What was raised first holds the request: nothing leads to it.
    assert error.__context__ is None
    assert error.__cause__ is None


@pytest.mark.parametrize("fault", [{"kind": "drop"}, {"kind": "respond", "status": 529}])
async def test_a_provider_that_is_away_is_transient(
    provider: Provider, vaults: ProviderVaults, fault: dict[str, Any]
) -> None:
    vault = await vaults.create("acme", "Ada's")
    await provider.faults({"match": {"path": "credentials"}, "fault": fault})
    with pytest.raises(Transient) as caught:
        await vaults.add(vault, bearer())
    assert caught.value.reason == "provider_unavailable"
    asked = (await provider.http.get("/_sim/requests")).json()
    posts = [one for one in asked["data"] if one["path"].endswith("/credentials")]
    assert len(posts) == 1


async def test_without_a_key_nothing_is_asked(provider: Provider) -> None:
    vaults = ProviderVaults(
        ProviderSettings(anthropic_base_url=provider.url, anthropic_api_key=None)
    )
    with pytest.raises(Transient, match="ANTHROPIC_API_KEY"):
        await vaults.create("acme", "Ada's")
