"""Requests to servers that somebody named: only to addresses that may be asked, each bounded in time and size.

A name is looked up once for each connection, and what it stands for is checked on the way there, so that a name
which leads elsewhere a moment later leads nowhere else here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from services.gateway.connect.answers import OauthAnswer
from services.gateway.connect.hosts import Hosts, is_public
from shared import logs
from shared.errors import Rejected, Transient, TurnstileError

if TYPE_CHECKING:
    from aiohttp import ClientSession

SECONDS = 8.0
MOST_BYTES = 256 * 1024
_ACCEPTS = {"Accept": "application/json", "User-Agent": "turnstile"}
_log = logs.get("gateway.oauth")


class GuardedHttp:
    """The OauthHttp port. No redirects, cookies or proxies; `hosts` says what may be asked."""

    def __init__(self, hosts: Hosts, seconds: float = SECONDS) -> None:
        self._hosts = hosts
        self._seconds = seconds
        self._session: ClientSession | None = None

    async def get(self, url: str, *, body: bool = True) -> OauthAnswer:
        """See OauthHttp.get."""
        return await self._ask("GET", url, body)

    async def post(
        self,
        url: str,
        *,
        form: Mapping[str, str] | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> OauthAnswer:
        """See OauthHttp.post."""
        return await self._ask("POST", url, True, data=form, json=json, headers=headers)

    async def stop(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _ask(self, method: str, url: str, body: bool, **sent: Any) -> OauthAnswer:
        """What is raised below is left behind before anything else is raised: it may hold the request."""
        self._hosts.require(url, "mcp_server_url")
        failure: TurnstileError
        try:
            async with asyncio.timeout(self._seconds):
                return await self._answer(method, url, body, sent)
        except (Rejected, Transient) as error:
            raise error from None
        except TimeoutError:
            failure = _away(url, f"does not answer within {self._seconds:g} s")
        except Exception as error:
            failure = _told(error, url)
            _log.warning("oauth_request_failed", error=type(error).__name__)
        raise failure

    async def _answer(
        self, method: str, url: str, body: bool, sent: Mapping[str, Any]
    ) -> OauthAnswer:
        from yarl import URL

        if self._session is None:
            self._session = _session(self._hosts)
        asked = self._session.request(method, URL(url, encoded=True), allow_redirects=False, **sent)
        async with asked as answer:
            return OauthAnswer(
                status=answer.status,
                challenge=", ".join(answer.headers.getall("WWW-Authenticate", ())),
                body=await _bounded(answer.content) if body else b"",
            )


class _PrivateAddress(Exception):
    """A name that leads to an address which is not the Internet's."""


async def _bounded(content: Any) -> bytes:
    found = bytearray()
    async for chunk in content.iter_any():
        found += chunk
        if len(found) > MOST_BYTES:
            raise Rejected(
                "oauth_server_refused",
                f"the server answers with more than {MOST_BYTES} bytes",
                field="mcp_server_url",
            )
    return bytes(found)


def _session(hosts: Hosts) -> ClientSession:
    # Imported when first needed: many gateways never are asked to connect anything.
    import aiohttp
    from aiohttp.abc import AbstractResolver, ResolveResult

    class Resolver(AbstractResolver):
        """Names as the system knows them, where they lead to what may be asked."""

        def __init__(self) -> None:
            self._system = aiohttp.ThreadedResolver()

        async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
            found = await self._system.resolve(host, port, family)
            if hosts.trusts(host, port) or all(is_public(one["host"]) for one in found):
                return found
            raise _PrivateAddress

        async def close(self) -> None:
            await self._system.close()

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=Resolver(), use_dns_cache=False, limit=64),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=_ACCEPTS,
        trust_env=False,
    )


def _told(error: Exception, url: str) -> TurnstileError:
    if isinstance(error, _PrivateAddress):
        words = "leads to a private address; name its host in TURNSTILE_CONNECT_HOSTS to allow it"
    elif isinstance(error, ValueError):
        words = "is no address that can be asked"
    else:
        return _away(url, "can't be reached")
    return Rejected(
        "oauth_server_refused", f"{urlsplit(url).hostname} {words}", field="mcp_server_url"
    )


def _away(url: str, words: str) -> Transient:
    whole = f"{urlsplit(url).hostname} {words}"
    return Transient("oauth_server_unavailable", whole, retry_after=5)
