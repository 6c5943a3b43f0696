"""A server is connected through the gateway's pages, with what goes wrong on the way; and every secret of it."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import httpx2

from tests.e2e.api import Api
from tests.oauth_server import oauth_server

# What nobody is told, and what a browser has to be told.
KEPT = (
    "client",
    "code",
    "access",
    "refresh",
    "new_access",
    "new_refresh",
    "verifier",
    "wrong_code",
)
CARRIED = ("token", "state", "browser")


async def connected(api: Api, vault: str) -> tuple[list[str], dict[str, str]]:
    """What was answered, and the secrets by kind, of a server that is connected for the vault at a path: with a
    client registered for the link, after a refusal, a wrong code and a token endpoint that was down. Then its token
    is refreshed."""
    async with oauth_server() as oauth, httpx2.AsyncClient(timeout=30) as browser:
        oauth.mark = "canary-connect-"
        asked = {"mcp_server_url": oauth.mcp_server_url, "user_id": "u1"}
        url = (await api.post(f"{vault}/connect", asked, 201))["url"]
        shown = await browser.get(url)
        oauth.denies = True
        denied = await browser.post(url, follow_redirects=True)
        oauth.denies, oauth.down = False, True
        down = await browser.post(url, follow_redirects=True)
        oauth.down = False
        begun = (await browser.post(url)).headers["location"]
        wrong = {"code": "canary-connect-wrong-4711", "state": state_of(begun), "iss": oauth.base}
        callback = url.replace(url.rpartition("/")[2], "callback")
        refused = await browser.get(callback, params=wrong)
        done = await browser.post(url, follow_redirects=True)
        pages = (shown, denied, down, refused, done)
        assert [page.status_code for page in pages] == [200, 403, 503, 400, 200]
        first = oauth.tokens[0]
        oauth.expire()
        tried = await tried_again(api, vault, oauth.mcp_server_url)
        second = oauth.tokens[-1]
        secrets = {
            "client": next(iter(oauth.clients.values())).client_secret,
            "code": oauth.spent[-1],
            "access": first.access_token,
            "refresh": first.refresh_token,
            "new_access": second.access_token,
            "new_refresh": second.refresh_token,
            "verifier": oauth.exchanges[-2]["code_verifier"],
            "wrong_code": wrong["code"],
            "token": url.rpartition("/")[2],
            "state": state_of(begun),
            "browser": browser.cookies["turnstile_connect"],
        }
    return [*(page.text for page in pages), tried], secrets


async def tried_again(api: Api, vault: str, url: str) -> str:
    """What is answered when the credential is validated; it is refreshed for that."""
    made = (await api.get(f"{vault}/credentials"))["data"]
    (one,) = (one for one in made if one["mcp_server_url"] == url)
    answer = await api.http.post(f"{vault}/credentials/{one['credential_id']}/validate")
    assert answer.json()["refresh"] == "succeeded"
    return answer.text


def state_of(url: str) -> str:
    """The `state` that a browser takes to an authorization server."""
    return dict(parse_qsl(urlsplit(url).query))["state"]
