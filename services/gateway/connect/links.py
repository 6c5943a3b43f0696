"""Connect links: made for a vault, shown to a person, begun with by one browser, and used once.

A link is open until a code is exchanged for a credential. Whoever begins with it first is the only one who can go
on with it; what goes wrong on the way gives it back to that browser, and leaves nothing half made
(docs/decisions/0036).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from services.gateway.connect.discovery import Discovery, auth_method, server_of
from services.gateway.connect.exchange import CODES, authorization_url, credential, exchanged
from services.gateway.connect.hosts import Hosts
from services.gateway.connect.ports import LinkStore, OauthHttp
from services.gateway.connect.records import (
    CALLBACK,
    Client,
    Connection,
    Journey,
    LinkRecord,
    Server,
)
from services.gateway.connect.sealing import Seals, Unsealed, hashed
from services.gateway.vault_bodies import ConnectLink, NewConnect
from services.gateway.vaults import OwnVaults
from shared import logs
from shared.clock import Clock
from shared.errors import Rejected, Transient
from shared.moment import rfc3339
from shared.secret import Secret

# All that is asked of servers before a link is there.
DISCOVERY_SECONDS = 20.0
_log = logs.get("gateway.connect")


class NotConnected(Exception):
    """There is no credential because of `error`; the same browser may begin again with the link `token`."""

    def __init__(self, error: Rejected | Transient, token: Secret) -> None:
        super().__init__(error.reason)
        self.error = error
        self.token = token


@dataclass(frozen=True, slots=True)
class Returned:
    """What the authorization server sends a browser back with; "" for what is not there."""

    state: str
    code: Secret | None
    error: str
    issuer: str


@dataclass(frozen=True, slots=True)
class Connects:
    """`key` is the deployment's, "" for none; `chance` gives a text of 256 random bits; a page of `origins`
    ("*": any) may be returned to. Raises Rejected and Transient, whose words hold no secret."""

    store: LinkStore
    vaults: OwnVaults
    http: OauthHttp
    hosts: Hosts
    key: str
    seconds: float
    origins: Sequence[str]
    clock: Clock
    chance: Callable[[], str]

    async def make(
        self, tenant_id: str, vault_id: str, asked: NewConnect, base: str
    ) -> ConnectLink:
        """A link to a page below `base`, once all that it needs is known."""
        self.vaults.require_oauth()
        seals = self._seals()
        vault = await self.vaults.vault(tenant_id, vault_id)
        self._require_sound(asked)
        try:
            async with asyncio.timeout(DISCOVERY_SECONDS):
                connection = await self._connection(asked, vault.user_id or "", base)
        except TimeoutError:
            words = f"the servers took longer than {DISCOVERY_SECONDS:.0f} s"
            raise Transient("oauth_server_unavailable", words, retry_after=5) from None
        token = self.chance()
        until = self.clock() + timedelta(seconds=self.seconds)
        await self.store.add(
            LinkRecord(
                id=hashed(token),
                tenant_id=tenant_id,
                user_id=connection.user_id,
                vault_id=vault_id,
                sealed=seals.seal(connection, token),
                browser="",
                status="open",
                expires_at=until.timestamp(),
            )
        )
        return ConnectLink(url=f"{base}/connect/{token}", expires_at=rfc3339(until))

    async def shown(self, token: str) -> Connection:
        """What an open link is for, whoever asks."""
        return (await self._open(token))[1]

    async def begin(self, token: str, browser: str) -> tuple[Connection, str]:
        """What it is for, and where its browser goes; from now on it is this browser's alone."""
        record, connection = await self._open(token)
        if not await self.store.begin(record.id, hashed(browser)):
            raise _elsewhere()
        journey = Journey(token=Secret(token), verifier=Secret(self.chance()))
        state = self._seals().seal(journey, browser)
        return connection, authorization_url(connection, state, journey.verifier)

    async def finish(self, returned: Returned, browser: str) -> Connection:
        """The credential is in the vault when this returns. Raises NotConnected where this browser may begin again,
        and Rejected or Transient where it may not."""
        try:
            journey = self._seals().open(returned.state, Journey, browser)
        except Unsealed:
            raise _elsewhere() from None
        record, connection = await self._open(journey.token.reveal())
        if record.browser != hashed(browser):
            raise _elsewhere()
        try:
            code = _code(returned, connection.server)
        except Rejected as error:
            raise NotConnected(error, journey.token) from None
        if not await self.store.move(record.id, record.browser, "open", "exchanging"):
            raise _used()
        await self._put_in(record, connection, code, journey)
        _log.info("connected", tenant_id=record.tenant_id, vault_id=record.vault_id)
        return connection

    async def _put_in(
        self, record: LinkRecord, connection: Connection, code: Secret, journey: Journey
    ) -> None:
        failure: Rejected | Transient
        try:
            tokens = await exchanged(self.http, connection, code, journey.verifier)
            put = credential(connection, tokens, self.clock())
            await self.vaults.put(record.tenant_id, record.vault_id, put)
        except (Rejected, Transient) as error:
            failure = error
        else:
            await self.store.move(record.id, record.browser, "exchanging", "done")
            return
        await self.store.move(record.id, record.browser, "exchanging", "open")
        _log.warning("not_connected", tenant_id=record.tenant_id, reason=failure.reason)
        raise NotConnected(failure, journey.token)

    async def _open(self, token: str) -> tuple[LinkRecord, Connection]:
        """The link's row and what is sealed in it. Raises Rejected where it is not open."""
        seals = self._seals()
        record = await self.store.record(hashed(token))
        if record is None:
            raise Rejected("connect_unknown", "there is no such link, or no longer")
        if record.status != "open":
            raise _used()
        if record.expires_at <= self.clock().timestamp():
            raise Rejected("connect_expired", "the link is too old")
        try:
            return record, seals.open(record.sealed, Connection, token)
        except Unsealed:
            # Another key is set than when it was made.
            raise Rejected("connect_expired", "the link is from before a change here") from None

    async def _connection(self, asked: NewConnect, user_id: str, base: str) -> Connection:
        redirect_uri, discovery = base + CALLBACK, Discovery(self.http, self.hosts)
        url = asked.mcp_server_url
        scopes: Sequence[str] | None = asked.scopes
        if asked.authorization_endpoint and asked.token_endpoint:
            server = Server(
                authorization_endpoint=asked.authorization_endpoint,
                token_endpoint=asked.token_endpoint,
            )
            client, resource = _client(asked, ()), asked.resource
        else:
            said = await discovery.resource(url)
            metadata = await discovery.server(url, said)
            server = server_of(metadata)
            client = _client(asked, metadata.token_endpoint_auth_methods_supported)
            client = client or await discovery.register(metadata, redirect_uri)
            resource = asked.resource or said.resource
            scopes = said.scopes_supported if scopes is None else scopes
        if client is None:
            words = f"is needed where endpoints are given: register {redirect_uri} there"
            raise Rejected("invalid_request", words, field="client_id")
        return Connection(
            mcp_server_url=url,
            server=server,
            client=client,
            scope=" ".join(scopes or ()),
            resource=resource or "",
            user_id=asked.user_id or user_id,
            base=base,
            return_to=asked.return_to or "",
        )

    def _require_sound(self, asked: NewConnect) -> None:
        self.hosts.require(asked.mcp_server_url, "mcp_server_url")
        for field in ("authorization_endpoint", "token_endpoint"):
            given = getattr(asked, field)
            if given:
                self.hosts.require(given, field)
            elif asked.authorization_endpoint or asked.token_endpoint:
                raise _wrong(field, "is needed beside the other endpoint")
        if asked.client_secret is not None and asked.client_id is None:
            raise _wrong("client_id", "is needed beside client_secret")
        if asked.token_endpoint_auth_method and asked.client_secret is None:
            raise _wrong("client_secret", "is needed beside token_endpoint_auth_method")
        if asked.return_to and not self._may_return(asked.return_to):
            raise _wrong("return_to", "is at no origin of TURNSTILE_CORS_ORIGINS: add it there")

    def _may_return(self, url: str) -> bool:
        parts = urlsplit(url)
        return "*" in self.origins or f"{parts.scheme}://{parts.netloc}" in self.origins

    def _seals(self) -> Seals:
        if not self.key:
            words = "connecting is not set up: set TURNSTILE_CONNECT_KEY on every gateway"
            raise Transient("connect_unavailable", words, retry_after=60)
        return Seals(self.key)


def _client(asked: NewConnect, supported: Sequence[str]) -> Client | None:
    if asked.client_id is None:
        return None
    if asked.client_secret is None:
        return Client(id=asked.client_id)
    auth = asked.token_endpoint_auth_method or auth_method(supported)
    return Client(id=asked.client_id, secret=asked.client_secret, auth=auth)


def _code(returned: Returned, server: Server) -> Secret:
    """The code, where the server gave one. Raises Rejected."""
    if returned.error == "access_denied":
        raise Rejected("connect_denied", "the server was told not to allow it")
    if returned.error:
        told = returned.error if returned.error in CODES else "an error of its own"
        raise _refused(f"the authorization server says {told}")
    named = returned.issuer or ("" if server.says_issuer else server.issuer)
    if server.issuer and named.rstrip("/") != server.issuer.rstrip("/"):
        raise _refused("it is another authorization server that answers (RFC 9207)")
    if returned.code is None:
        raise _refused("the authorization server sent no code")
    return returned.code


def _wrong(field: str, words: str) -> Rejected:
    return Rejected("invalid_request", words, field=field)


def _refused(words: str) -> Rejected:
    return Rejected("oauth_server_refused", words)


def _used() -> Rejected:
    return Rejected("connect_used", "the link was used already")


def _elsewhere() -> Rejected:
    return Rejected("connect_elsewhere", "this was begun in another browser")
