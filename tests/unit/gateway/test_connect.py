"""Connecting over HTTP: links for a tenant's vaults, pages for one browser, once, and nothing half made."""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest

from services.gateway.connect.answers import OauthAnswer
from services.gateway.connect.sweep import KEPT, Sweep
from shared.errors import Transient
from tests.unit.gateway.desk import NOON, Desk

pytestmark = pytest.mark.unit
URL = "https://mcp.example/sse"
AUTHORIZE = "https://auth.example/authorize"
TOKEN = "https://auth.example/token"
CLIENT = {
    "mcp_server_url": URL,
    "authorization_endpoint": AUTHORIZE,
    "token_endpoint": TOKEN,
    "client_id": "client 1",
}
SECRET = "canary-client-secret-4711"
CODE = "canary-code-4711-never-shown"
ACCESS = "canary-access-4711-never-shown"
REFRESH = "canary-refresh-4711-never-shown"
TOKENS = {
    "access_token": ACCESS,
    "token_type": "Bearer",
    "expires_in": 3600,
    "refresh_token": REFRESH,
}


class Person:
    """A person's browser: it has cookies, and no key."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self.client = client

    async def opens(self, url: str) -> httpx2.Response:
        return await self.client.get(path(url))

    async def presses(self, url: str, **headers: str) -> httpx2.Response:
        return await self.client.post(path(url), headers=headers)

    async def comes_back(self, pressed: httpx2.Response, **said: str) -> httpx2.Response:
        query = {"state": sent_along(pressed)["state"], "code": CODE, **said}
        return await self.client.get(
            "/connect/callback", params={k: v for k, v in query.items() if v}
        )


def path(url: str) -> str:
    return urlsplit(url).path


def sent_along(pressed: httpx2.Response) -> dict[str, str]:
    """What a browser takes to the authorization server."""
    assert pressed.status_code == 303, pressed.text
    return dict(parse_qsl(urlsplit(pressed.headers["location"]).query))


@asynccontextmanager
async def person(desk: Desk) -> AsyncIterator[Person]:
    async with desk.client(None) as client:
        yield Person(client)


async def a_vault(desk: Desk, **more: str) -> str:
    async with desk.client() as client:
        answer = await client.post("/v1/vaults", json={"display_name": "Ada's", **more})
    return str(answer.json()["vault_id"])


async def asked(desk: Desk, vault: str, key: str = "key-a", **more: Any) -> httpx2.Response:
    async with desk.client(key) as client:
        return await client.post(f"/v1/vaults/{vault}/connect", json={**CLIENT, **more})


async def a_link(desk: Desk, **more: Any) -> tuple[str, str]:
    """A vault, and a link for it."""
    vault = await a_vault(desk, user_id="ada")
    answer = await asked(desk, vault, **more)
    assert answer.status_code == 201, answer.text
    desk.oauth.say(TOKEN, TOKENS)
    return vault, answer.json()["url"]


async def test_a_person_connects_a_server() -> None:
    desk = Desk()
    vault, url = await a_link(desk, scopes=["read", "write"], resource=URL)
    async with person(desk) as ada:
        shown = await ada.opens(url)
        assert shown.status_code == 200
        for words in (URL, "ada", "auth.example", "read write"):
            assert words in shown.text
        pressed = await ada.presses(url)
        assert pressed.headers["location"].startswith(AUTHORIZE + "?")
        along = sent_along(pressed)
        assert (await ada.comes_back(pressed)).status_code == 200
    assert along["client_id"] == "client 1"
    assert along["redirect_uri"] == "http://gateway/connect/callback"
    assert (along["scope"], along["resource"]) == ("read write", URL)
    assert along["code_challenge_method"] == "S256"
    form = desk.oauth.asked[-1][1]["form"]
    digest = sha256(form["code_verifier"].encode()).digest()
    assert along["code_challenge"] == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert (form["code"], form["redirect_uri"]) == (CODE, along["redirect_uri"])
    (one,) = desk.vaults.vaults[vault].values()
    assert (one.mcp_server_url, one.refreshable) == (URL, True)
    assert one.expires_at == "2026-11-21T13:00:00.000000Z"
    assert desk.vaults.held[one.credential_id] == [ACCESS, REFRESH]


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_a_client_with_a_secret_says_it_as_asked(method: str) -> None:
    desk = Desk()
    vault, url = await a_link(desk, client_secret=SECRET, token_endpoint_auth_method=method)
    async with person(desk) as ada:
        await ada.comes_back(await ada.presses(url))
    sent = desk.oauth.asked[-1][1]
    if method == "client_secret_post":
        assert sent["form"]["client_secret"] == SECRET
    else:
        pair = base64.b64encode(f"client%201:{SECRET}".encode()).decode()
        assert sent["headers"] == {"Authorization": f"Basic {pair}"}
        assert SECRET not in json.dumps(sent["form"])
    (held,) = desk.vaults.held.values()
    assert held == [ACCESS, REFRESH, SECRET]
    assert vault in desk.vaults.vaults


async def test_a_second_connection_takes_the_place_of_the_first() -> None:
    desk = Desk()
    vault, url = await a_link(desk)
    again = (await asked(desk, vault)).json()["url"]
    async with person(desk) as ada:
        for one in (url, again):
            assert (await ada.comes_back(await ada.presses(one))).status_code == 200
    assert len(desk.vaults.vaults[vault]) == 1


async def test_a_link_opens_once() -> None:
    desk = Desk()
    vault, url = await a_link(desk)
    async with person(desk) as ada:
        pressed = await ada.presses(url)
        assert (await ada.comes_back(pressed)).status_code == 200
        for answer in (
            await ada.opens(url),
            await ada.presses(url),
            await ada.comes_back(pressed),
        ):
            assert answer.status_code == 410
            assert "used already" in answer.text
    assert len(desk.oauth.asked) == 1
    assert [row.sealed for row in desk.links.rows.values()] == [""]
    assert len(desk.vaults.vaults[vault]) == 1


async def test_a_link_is_the_browsers_that_begins() -> None:
    desk = Desk()
    vault, url = await a_link(desk)
    async with person(desk) as ada, person(desk) as eve:
        assert (await eve.opens(url)).status_code == 200  # looking takes nothing from anybody
        pressed = await ada.presses(url)
        for answer in (await eve.presses(url), await eve.comes_back(pressed)):
            assert answer.status_code == 403
            assert "another browser" in answer.text
        assert not desk.oauth.asked
        assert (await ada.comes_back(pressed)).status_code == 200
    assert len(desk.vaults.vaults[vault]) == 1


async def test_the_browser_of_one_link_cannot_end_anothers() -> None:
    desk = Desk()
    _, mine = await a_link(desk)
    _, other = await a_link(desk)
    async with person(desk) as ada, person(desk) as eve:
        await ada.presses(mine)
        pressed = await eve.presses(other)
        assert (await ada.comes_back(pressed)).status_code == 403
        assert not desk.oauth.asked


async def test_a_link_is_not_begun_with_from_another_sites_page() -> None:
    desk = Desk()
    _, url = await a_link(desk)
    async with person(desk) as ada:
        for headers in (
            {"Origin": "https://evil.example"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Origin": "null"},
        ):
            answer = await ada.presses(url, **headers)
            assert answer.status_code == 403
            assert "set-cookie" not in answer.headers
        good = {"Origin": "http://gateway", "Sec-Fetch-Site": "same-origin"}
        assert (await ada.presses(url, **good)).status_code == 303


async def test_a_link_that_is_a_day_old_is_too_old() -> None:
    desk = Desk()
    vault, url = await a_link(desk)
    async with person(desk) as ada:
        pressed = await ada.presses(url)
        desk.clock = lambda: NOON + timedelta(days=1)
        for answer in (
            await ada.opens(url),
            await ada.presses(url),
            await ada.comes_back(pressed),
        ):
            assert answer.status_code == 410
            assert "too old" in answer.text
        desk.clock = lambda: NOON + KEPT + timedelta(hours=2)
        assert await Sweep(desk.links, desk.clock).once() == 1
        assert (await ada.opens(url)).status_code == 404
    assert not desk.oauth.asked
    assert not desk.vaults.vaults[vault]


async def test_who_says_no_at_the_server_may_begin_again() -> None:
    desk = Desk()
    vault, url = await a_link(desk)
    async with person(desk) as ada:
        denied = await ada.comes_back(await ada.presses(url), code="", error="access_denied")
        assert denied.status_code == 403
        assert path(url) in denied.text
        assert not desk.vaults.vaults[vault]
        assert (await ada.comes_back(await ada.presses(url))).status_code == 200
    assert len(desk.vaults.vaults[vault]) == 1


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (Transient("oauth_server_unavailable", "it is away"), 503, "away"),
        (OauthAnswer(status=500, body=CODE.encode()), 503, "answered 500"),
        (OauthAnswer(status=400, body=b'{"error": "invalid_grant"}'), 400, "invalid_grant"),
        (OauthAnswer(status=400, body=f'{{"error": "{CODE}"}}'.encode()), 400, "answered 400"),
        (OauthAnswer(status=200, body=CODE.encode()), 400, "no bearer token"),
        (OauthAnswer(status=200, body=b'{"access_token": ""}'), 400, "no bearer token"),
        (
            OauthAnswer(status=200, body=b'{"access_token": "x", "token_type": "mac"}'),
            400,
            "no bearer token",
        ),
    ],
)
async def test_a_token_endpoint_that_fails_leaves_the_link_as_it_was(
    answer: Any,
    status: int,
    words: str,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    desk = Desk()
    vault, url = await a_link(desk)
    desk.oauth.says[TOKEN] = answer
    async with person(desk) as ada:
        failed = await ada.comes_back(await ada.presses(url))
        assert failed.status_code == status
        assert words in failed.text
        assert path(url) in failed.text
        assert not desk.vaults.vaults[vault]
        desk.oauth.say(TOKEN, TOKENS)
        assert (await ada.comes_back(await ada.presses(url))).status_code == 200
    for told in (failed.text, logged(caplog, capsys)):
        assert CODE not in told


async def test_a_provider_that_is_away_leaves_the_link_as_it_was() -> None:
    desk = Desk()
    vault, url = await a_link(desk)
    async with person(desk) as ada:
        pressed = await ada.presses(url)
        desk.vaults.down = True
        assert (await ada.comes_back(pressed)).status_code == 503
        desk.vaults.down = False
        assert (await ada.comes_back(await ada.presses(url))).status_code == 200
    assert len(desk.vaults.vaults[vault]) == 1


async def test_a_database_that_is_away_is_said_on_the_page() -> None:
    desk = Desk()
    _, url = await a_link(desk)
    desk.links.down = True
    async with person(desk) as ada:
        for answer in (await ada.opens(url), await ada.presses(url)):
            assert answer.status_code == 503
            assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    "said",
    [
        {"state": "forged"},
        {"state": "é"},
        {"state": ""},
        {"state": "A" * 5000},
    ],
)
async def test_a_forged_state_is_nobodys(said: dict[str, str]) -> None:
    desk = Desk()
    _, url = await a_link(desk)
    async with person(desk) as ada:
        pressed = await ada.presses(url)
        assert (await ada.comes_back(pressed, **said)).status_code == 403
        assert not desk.oauth.asked


def logged(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> str:
    """What the gateway logged: not the client of the test, which writes down the addresses it asks."""
    lines = [one.getMessage() for one in caplog.records if one.name != "httpx2"]
    return "\n".join([*lines, *capsys.readouterr()])


async def test_nothing_secret_is_told_or_kept(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    desk = Desk()
    _, url = await a_link(desk, client_secret=SECRET)
    token = url.rpartition("/")[2]
    async with person(desk) as ada:
        shown = await ada.opens(url)
        pressed = await ada.presses(url)
        verifierless = pressed.headers["location"]
        back = await ada.comes_back(pressed)
    verifier = desk.oauth.asked[-1][1]["form"]["code_verifier"]
    kept, lines = repr(desk.links.rows), logged(caplog, capsys)
    assert "connected" in lines
    for secret in (SECRET, CODE, ACCESS, REFRESH, verifier, token):
        for told in (kept, back.text, lines):
            assert secret not in told
    for secret in (SECRET, verifier, token):
        assert secret not in verifierless
    assert SECRET not in shown.text


async def test_pages_are_kept_nowhere_and_run_nothing() -> None:
    desk = Desk()
    _, url = await a_link(desk)
    async with person(desk) as ada:
        answer = await ada.opens(url)
        cookie = (await ada.presses(url)).headers["set-cookie"].lower()
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    style = re.search("<style>(.*?)</style>", answer.text, re.DOTALL)
    assert style is not None
    assert base64.b64encode(sha256(style[1].encode()).digest()).decode() in policy
    assert "<script" not in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "secure" not in cookie  # this gateway is reached without TLS


async def test_what_is_shown_is_text() -> None:
    desk = Desk()
    _, url = await a_link(desk, mcp_server_url="https://mcp.example/<b>&'\"", user_id="ada")
    async with person(desk) as ada:
        text = (await ada.opens(url)).text
    assert "<b>" not in text
    assert "&lt;b&gt;" in text


async def test_links_are_where_browsers_reach_the_gateway() -> None:
    desk = Desk(public_url="https://turnstile.example")
    _, url = await a_link(desk)
    assert url.startswith("https://turnstile.example/connect/")
    async with person(desk) as ada:
        pressed = await ada.presses(url, Origin="https://turnstile.example")
    assert sent_along(pressed)["redirect_uri"] == "https://turnstile.example/connect/callback"
    assert "secure" in pressed.headers["set-cookie"].lower()


async def test_a_page_of_an_allowed_origin_is_returned_to() -> None:
    desk = Desk(origins=("https://app.example",))
    there = "https://app.example/settings?tab=tools"
    _, url = await a_link(desk, return_to=there)
    async with person(desk) as ada:
        back = await ada.comes_back(await ada.presses(url))
    assert (back.status_code, back.headers["location"]) == (303, there)
    for elsewhere in ("https://app.example.evil/", "http://app.example/", "https://evil.example"):
        refused = await asked(desk, await a_vault(desk), return_to=elsewhere)
        assert refused.status_code == 400
        assert refused.json()["errors"][0]["field"] == "return_to"


async def test_without_a_key_connecting_says_which_setting_is_missing() -> None:
    desk = Desk(connect_key="")
    answer = await asked(desk, await a_vault(desk))
    assert answer.status_code == 503
    assert "TURNSTILE_CONNECT_KEY" in answer.json()["detail"]
    async with person(desk) as ada:
        for page in (
            await ada.opens("/connect/x"),
            await ada.presses("/connect/x"),
            await ada.client.get("/connect/callback"),
        ):
            assert page.status_code == 503
            assert "TURNSTILE_CONNECT_KEY" in page.text


async def test_a_link_from_before_another_key_is_too_old() -> None:
    desk = Desk()
    _, url = await a_link(desk)
    later = Desk(links=desk.links, connect_key="another-key-of-more-than-32-letters")
    async with person(later) as ada:
        assert (await ada.opens(url)).status_code == 410


async def test_another_tenants_vault_is_not_there() -> None:
    desk = Desk()
    answer = await asked(desk, await a_vault(desk), "key-b")
    assert (answer.status_code, answer.json()["type"]) == (
        404,
        "urn:turnstile:problem:unknown_vault",
    )
    assert not desk.links.rows


async def test_a_vault_that_is_gone_meanwhile_is_said_on_the_page() -> None:
    desk = Desk()
    vault, url = await a_link(desk)
    async with desk.client() as client:
        await client.delete(f"/v1/vaults/{vault}")
    async with person(desk) as ada:
        assert (await ada.comes_back(await ada.presses(url))).status_code == 404


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"mcp_server_url": "http://mcp.example"}, "mcp_server_url"),
        ({"mcp_server_url": "https://10.0.0.1/"}, "mcp_server_url"),
        ({"mcp_server_url": "https://[::ffff:10.0.0.1]/"}, "mcp_server_url"),
        ({"mcp_server_url": "https://[64:ff9b::a00:1]/"}, "mcp_server_url"),
        ({"mcp_server_url": "https://mcp.example:99999/"}, "mcp_server_url"),
        ({"token_endpoint": "http://auth.example/token"}, "token_endpoint"),
        ({"token_endpoint": "https://169.254.169.254/latest"}, "token_endpoint"),
        ({"token_endpoint": None}, "token_endpoint"),
        ({"authorization_endpoint": None}, "authorization_endpoint"),
        ({"authorization_endpoint": "https://auth.example/#x"}, "authorization_endpoint"),
        ({"client_id": None}, "client_id"),
        ({"client_id": None, "client_secret": SECRET}, "client_id"),
        ({"token_endpoint_auth_method": "client_secret_post"}, "client_secret"),
        ({"scopes": ["a b"]}, "scopes[0]"),
        ({"client_secret": [SECRET]}, "client_secret"),
        ({SECRET: 1}, "body"),
    ],
)
async def test_what_is_wrong_is_named(more: dict[str, Any], field: str) -> None:
    desk = Desk()
    answer = await asked(desk, await a_vault(desk), **more)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == field
    assert SECRET not in answer.text
    assert not desk.links.rows


async def test_hosts_that_the_deployment_names_may_be_private_and_plain() -> None:
    desk = Desk()
    answer = await asked(desk, await a_vault(desk), token_endpoint="http://127.0.0.1:9/token")
    assert answer.status_code == 201
