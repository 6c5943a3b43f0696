"""MCP servers connected through a real gateway of two processes, Authlib's authorization server and the simulator,
by somebody whose browser follows links and keeps cookies."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest

from tests.browser import CHROMIUM
from tests.clickhouse_server import fresh_database
from tests.integration.gateway_process import GatewayProcess, gateway_process
from tests.integration.simulator_client import Provider, provided
from tests.oauth_server import USER, OauthServer, oauth_server
from tests.tab import a_tab

pytestmark = pytest.mark.integration
needs_chromium = pytest.mark.skipif(
    not CHROMIUM, reason="no chromium here: apt-get install chromium"
)
KEY = "a-key-of-this-deployment-0123456789abcdef"


@pytest.fixture(scope="module")
async def provider() -> AsyncIterator[Provider]:
    async with provided() as found:
        yield found


@pytest.fixture(scope="module")
async def gateway(
    provider: Provider, kafka_bootstrap: str, postgres_url: str, clickhouse_url: str
) -> AsyncIterator[GatewayProcess]:
    settings = {
        "TURNSTILE_CONNECT_KEY": KEY,
        "TURNSTILE_CONNECT_HOSTS": "127.0.0.1",
        "TURNSTILE_CORS_ORIGINS": "http://127.0.0.1:1, https://app.example",
        "TURNSTILE_GATEWAY_PROCESSES": "2",
        "ANTHROPIC_BASE_URL": provider.url,
        "ANTHROPIC_API_KEY": "key",
    }
    archive = fresh_database(clickhouse_url)
    async with gateway_process(kafka_bootstrap, postgres_url, archive, **settings) as running:
        yield running


@pytest.fixture
async def oauth() -> AsyncIterator[OauthServer]:
    async with oauth_server() as running:
        yield running


class Vault:
    """A vault of the tenant's, and what is in it."""

    def __init__(self, client: httpx2.AsyncClient, id: str) -> None:
        self.client, self.id = client, id

    async def link(self, **asked: Any) -> str:
        """Where a person connects a server."""
        answer = await self.client.post(f"/v1/vaults/{self.id}/connect", json=asked)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["url"])

    async def credentials(self) -> list[dict[str, Any]]:
        answer = await self.client.get(f"/v1/vaults/{self.id}/credentials")
        return list(answer.json()["data"])

    async def validated(self) -> dict[str, Any]:
        """What comes of trying the one credential."""
        (one,) = await self.credentials()
        path = f"/v1/vaults/{self.id}/credentials/{one['credential_id']}/validate"
        found: dict[str, Any] = (await self.client.post(path)).json()
        return found


@asynccontextmanager
async def a_vault(gateway: GatewayProcess) -> AsyncIterator[Vault]:
    async with gateway.client() as client:
        made = await client.post("/v1/vaults", json={"display_name": "Ada's", "user_id": USER})
        yield Vault(client, made.json()["vault_id"])


@asynccontextmanager
async def a_browser() -> AsyncIterator[httpx2.AsyncClient]:
    """Each request on a connection of its own, so that any process of the gateway answers it."""
    limits = httpx2.Limits(max_keepalive_connections=0)
    async with httpx2.AsyncClient(timeout=20, limits=limits) as client:
        yield client


async def pressed(browser: httpx2.AsyncClient, url: str) -> httpx2.Response:
    """The page was read, its button pressed, and the server's redirects followed."""
    shown = await browser.get(url)
    assert shown.status_code == 200, shown.text
    origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
    return await browser.post(url, headers={"Origin": origin}, follow_redirects=True)


async def test_a_server_is_found_registered_with_connected_and_refreshed(
    gateway: GatewayProcess, oauth: OauthServer
) -> None:
    async with a_vault(gateway) as vault, a_browser() as browser:
        url = await vault.link(mcp_server_url=oauth.mcp_server_url)
        done = await pressed(browser, url)
        assert done.status_code == 200, done.text
        assert "is connected for ada" in done.text
        (client,) = oauth.clients.values()
        assert client.redirect_uris == [f"{gateway.url}/connect/callback"]
        (exchange,) = oauth.exchanges
        assert len(exchange["code_verifier"]) >= 43
        assert exchange["resource"] == oauth.mcp_server_url
        (one,) = await vault.credentials()
        assert (one["type"], one["mcp_server_url"]) == ("mcp_oauth", oauth.mcp_server_url)
        assert one["refreshable"]
        assert (await vault.validated())["status"] == "valid"
        oauth.expire()
        found = await vault.validated()
        assert (found["status"], found["refresh"]) == ("valid", "succeeded")
        assert [one["grant_type"] for one in oauth.exchanges] == [
            "authorization_code",
            "refresh_token",
        ]


@pytest.mark.parametrize("method", ["none", "client_secret_basic", "client_secret_post"])
async def test_a_client_that_was_registered_by_hand_connects(
    gateway: GatewayProcess, oauth: OauthServer, method: str
) -> None:
    client = oauth.client(method, f"{gateway.url}/connect/callback", "a s:e&c%r=e+t/")
    asked: dict[str, Any] = {
        "mcp_server_url": oauth.mcp_server_url,
        "authorization_endpoint": f"{oauth.base}/authorize",
        "token_endpoint": f"{oauth.base}/token",
        "client_id": client.client_id,
        "scopes": ["tools", "more"],
    }
    if method != "none":
        asked |= {"client_secret": client.client_secret, "token_endpoint_auth_method": method}
    async with a_vault(gateway) as vault, a_browser() as browser:
        done = await pressed(browser, await vault.link(**asked))
        assert done.status_code == 200, done.text
        assert oauth.tokens[0].scope == "tools more"
        oauth.expire()
        assert (await vault.validated())["status"] == "valid"
        # The same client again: the same credential with other tokens.
        (before,) = await vault.credentials()
        assert (await pressed(browser, await vault.link(**asked))).status_code == 200
        (after,) = await vault.credentials()
        assert after["credential_id"] == before["credential_id"]
        assert (await vault.validated())["status"] == "valid"


async def test_connected_again_by_another_client_it_is_another_credential(
    gateway: GatewayProcess, oauth: OauthServer
) -> None:
    async with a_vault(gateway) as vault, a_browser() as browser:
        for _ in range(2):
            url = await vault.link(mcp_server_url=oauth.mcp_server_url)
            assert (await pressed(browser, url)).status_code == 200
        assert len(oauth.clients) == 2
        oauth.expire()
        assert (await vault.validated())["status"] == "valid"


async def test_what_was_revoked_at_the_server_is_invalid(
    gateway: GatewayProcess, oauth: OauthServer
) -> None:
    async with a_vault(gateway) as vault, a_browser() as browser:
        url = await vault.link(mcp_server_url=oauth.mcp_server_url)
        assert (await pressed(browser, url)).status_code == 200
        (token,) = oauth.tokens
        client = oauth.clients[token.client_id]
        revoked = await browser.post(
            f"{oauth.base}/revoke",
            data={"token": token.refresh_token},
            auth=(client.client_id, client.client_secret),
        )
        assert revoked.status_code == 200, revoked.text
        found = await vault.validated()
        assert (found["status"], found["http_status"]) == ("invalid", 401)
        assert found["refresh"] == "failed"
        # Connected anew it works again.
        url = await vault.link(mcp_server_url=oauth.mcp_server_url)
        assert (await pressed(browser, url)).status_code == 200
        assert (await vault.validated())["status"] == "valid"


async def test_a_turn_is_told_what_was_revoked_at_the_server(
    gateway: GatewayProcess, oauth: OauthServer, provider: Provider
) -> None:
    library: Any = {"type": "url", "name": "library", "url": oauth.mcp_server_url}
    agent = await provider.beta.agents.create(
        model="claude-sonnet-5",
        name="reader",
        mcp_servers=[library],
        tools=[{"type": "mcp_toolset", "mcp_server_name": "library"}],
    )
    async with a_vault(gateway) as vault, a_browser() as browser:
        made = await provider.beta.sessions.create(
            agent=agent.id, environment_id=provider.environment, vault_ids=[vault.id]
        )

        async def errors() -> list[str]:
            said = await provider.say(made.id, "look it up [[script: mcp]]")
            return [one.error.type for one in said if one.type == "session.error"]

        url = await vault.link(mcp_server_url=oauth.mcp_server_url)
        assert (await pressed(browser, url)).status_code == 200
        assert await errors() == []
        oauth.expire()
        assert await errors() == []  # refreshed
        for token in oauth.tokens:
            token.revoked = True
        assert await errors() == ["mcp_authentication_failed_error"]
        url = await vault.link(mcp_server_url=oauth.mcp_server_url)
        assert (await pressed(browser, url)).status_code == 200
        assert await errors() == []


async def test_of_two_processes_one_exchanges_a_code(
    gateway: GatewayProcess, oauth: OauthServer
) -> None:
    async with a_vault(gateway) as vault, a_browser() as browser:
        url = await vault.link(mcp_server_url=oauth.mcp_server_url)
        begun = await browser.post(url)
        consented = await browser.get(begun.headers["location"])
        back = consented.headers["location"]
        answers = [await browser.get(back) for _ in range(6)]
        assert sorted(answer.status_code for answer in answers) == [200, *[410] * 5]
        assert len(oauth.exchanges) == 1
        assert len(await vault.credentials()) == 1


async def test_a_stolen_answer_is_of_no_use_in_another_browser(
    gateway: GatewayProcess, oauth: OauthServer
) -> None:
    async with a_vault(gateway) as vault, a_browser() as ada, a_browser() as eve:
        url = await vault.link(mcp_server_url=oauth.mcp_server_url)
        begun = await ada.post(url)
        back = (await ada.get(begun.headers["location"])).headers["location"]
        assert (await eve.get(back)).status_code == 403
        assert (await eve.post(url)).status_code == 403
        assert not oauth.exchanges
        assert (await ada.get(back)).status_code == 200


async def test_who_denies_it_and_a_server_that_is_down_can_be_tried_again(
    gateway: GatewayProcess, oauth: OauthServer
) -> None:
    async with a_vault(gateway) as vault, a_browser() as browser:
        url = await vault.link(mcp_server_url=oauth.mcp_server_url)
        oauth.denies = True
        denied = await pressed(browser, url)
        assert (denied.status_code, "not to allow" in denied.text) == (403, True)
        oauth.denies, oauth.down = False, True
        down = await pressed(browser, url)
        assert (down.status_code, "answered 503" in down.text) == (503, True)
        assert await vault.credentials() == []
        oauth.down = False
        assert (await pressed(browser, url)).status_code == 200
        assert len(await vault.credentials()) == 1


async def test_the_answer_of_another_server_is_not_taken(
    gateway: GatewayProcess, oauth: OauthServer
) -> None:
    async with a_vault(gateway) as vault, a_browser() as browser:
        url = await vault.link(mcp_server_url=oauth.mcp_server_url)
        begun = await browser.post(url)
        back = (await browser.get(begun.headers["location"])).headers["location"]
        query = dict(parse_qsl(urlsplit(back).query))
        for issuer in ("https://evil.example", ""):
            query["iss"] = issuer
            mixed = await browser.get(f"{gateway.url}/connect/callback", params=query)
            assert mixed.status_code == 400
            assert "another authorization server" in mixed.text
        assert not oauth.exchanges


async def test_servers_that_are_away_or_nothing_of_the_kind_are_said(
    gateway: GatewayProcess, oauth: OauthServer
) -> None:
    async with a_vault(gateway) as vault:
        for url, status, word in (
            ("http://127.0.0.1:1/mcp", 503, "oauth_server_unavailable"),
            (f"{gateway.url}/healthz", 400, "oauth_server_refused"),
            ("https://localhost/mcp", 400, "oauth_server_refused"),
        ):
            answer = await vault.client.post(
                f"/v1/vaults/{vault.id}/connect", json={"mcp_server_url": url}
            )
            assert answer.status_code == status, answer.text
            assert answer.json()["type"] == f"urn:turnstile:problem:{word}"


async def test_the_command_prints_the_link_alone(
    gateway: GatewayProcess, oauth: OauthServer
) -> None:
    async with a_vault(gateway) as vault, a_browser() as browser:
        code, said, _ = await commanded(gateway, vault.id, "--url", oauth.mcp_server_url)
        assert code == 0
        assert (await pressed(browser, said.strip())).status_code == 200
        code, said, why = await commanded(gateway, vault.id, "--url", "https://10.0.0.1/mcp")
        assert (code, said) == (1, "")
        assert "TURNSTILE_CONNECT_HOSTS" in why


async def commanded(gateway: GatewayProcess, vault: str, *more: str) -> tuple[int, str, str]:
    """Exit code, output and errors of `turnstile vaults connect`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.operator.main", "vaults", "connect", vault, *more),
        env={**os.environ, "TURNSTILE_GATEWAY_URL": gateway.url, "TURNSTILE_API_KEY": "key-a"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, why = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, said.decode(), why.decode()


@needs_chromium
async def test_a_real_browser_follows_the_button_to_the_server_and_back(
    gateway: GatewayProcess, oauth: OauthServer
) -> None:
    """Its rules for pages are kept: styles, where a form may lead through redirects, cookies of sites."""
    async with a_vault(gateway) as vault, a_tab() as ada, a_tab() as eve:
        url = await vault.link(mcp_server_url=oauth.mcp_server_url)
        await ada.goes_to(url)
        assert oauth.mcp_server_url in await ada.text()
        assert await ada.style("body", "maxWidth") == "512px"
        await ada.presses("button")
        assert "is connected for ada" in await ada.text()
        assert (await ada.address()).startswith(f"{gateway.url}/connect/callback")
        assert len(await vault.credentials()) == 1
        await eve.goes_to(url)
        assert "used already" in await eve.text()


@needs_chromium
async def test_a_real_browser_of_somebody_else_is_kept_out_and_the_owner_begins_again(
    gateway: GatewayProcess, oauth: OauthServer
) -> None:
    async with a_vault(gateway) as vault, a_tab() as ada, a_tab() as eve:
        url = await vault.link(mcp_server_url=oauth.mcp_server_url)
        oauth.denies = True
        await ada.goes_to(url)
        await ada.presses("button")
        assert "Nothing was stored" in await ada.text()
        await eve.goes_to(url)
        await eve.presses("button")
        assert "another browser" in await eve.text()
        oauth.denies = False
        await ada.presses("a")
        await ada.presses("button")
        assert "is connected" in await ada.text()
