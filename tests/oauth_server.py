"""An authorization server (Authlib's) and an MCP server that takes its tokens, on one port of this machine."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import uvicorn
from authlib.oauth2.rfc6749 import (
    AuthorizationCodeMixin,
    AuthorizationServer,
    ClientMixin,
    JsonPayload,
    JsonRequest,
    OAuth2Request,
    TokenMixin,
    grants,
)
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc6750 import BearerTokenGenerator
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7591 import ClientRegistrationEndpoint
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc9207 import IssuerParameter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

USER = "ada"
METHODS = ["none", "client_secret_basic", "client_secret_post"]


@dataclass
class Client(ClientMixin):  # type: ignore[misc]
    """A registered client."""

    client_id: str
    client_secret: str
    method: str
    redirect_uris: list[str]

    def get_client_id(self) -> str:
        return self.client_id

    def get_default_redirect_uri(self) -> str:
        return self.redirect_uris[0]

    def get_allowed_scope(self, scope: str) -> str:
        return scope

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri in self.redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        return secrets.compare_digest(self.client_secret, client_secret)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == self.method

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in ("authorization_code", "refresh_token")


@dataclass
class Code(AuthorizationCodeMixin):  # type: ignore[misc]
    """A code, and what it was asked for with."""

    code: str
    client_id: str
    redirect_uri: str
    scope: str
    code_challenge: str
    code_challenge_method: str

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope


@dataclass
class Token(TokenMixin):  # type: ignore[misc]
    """An access token and the refresh token beside it."""

    client_id: str
    access_token: str
    refresh_token: str
    scope: str
    expires_at: float
    revoked: bool = False

    def check_client(self, client: Client) -> bool:
        return self.client_id == client.client_id

    def get_scope(self) -> str:
        return self.scope

    def get_expires_in(self) -> int:
        return int(self.expires_at - time.time())

    def is_expired(self) -> bool:
        return time.time() >= self.expires_at

    def is_revoked(self) -> bool:
        return self.revoked

    def get_user(self) -> str:
        return USER


@dataclass
class OauthServer:
    """What the server holds, and how it behaves: `denies` every user's consent, `down` at its token endpoint.
    `mark` begins every secret that it makes."""

    base: str
    clients: dict[str, Client] = field(default_factory=dict)
    codes: dict[str, Code] = field(default_factory=dict)
    tokens: list[Token] = field(default_factory=list)
    exchanges: list[dict[str, str]] = field(default_factory=list)
    spent: list[str] = field(default_factory=list)
    mark: str = ""
    lasts: int = 3600
    denies: bool = False
    down: bool = False

    @property
    def mcp_server_url(self) -> str:
        """The MCP server that takes this one's tokens."""
        return f"{self.base}/mcp"

    def client(self, method: str, redirect_uri: str, secret: str = "") -> Client:
        """A client that was registered by hand."""
        made = Client(f"client-{len(self.clients)}", secret, method, [redirect_uri])
        self.clients[made.client_id] = made
        return made

    def expire(self) -> None:
        """Every access token runs out now."""
        for token in self.tokens:
            token.expires_at = 0.0


class _Answer(Response):
    """What IssuerParameter looks at."""

    @property
    def location(self) -> str:
        return self.headers.get("location", "")

    @location.setter
    def location(self, value: str) -> None:
        self.headers["location"] = value


class _Payload(JsonPayload):  # type: ignore[misc]
    def __init__(self, data: Any) -> None:
        self._data = data

    @property
    def data(self) -> Any:
        return self._data


class _Request(OAuth2Request):  # type: ignore[misc]
    """A request as Authlib reads it; it refuses to work without TLS, so the address says otherwise."""

    def __init__(self, request: Request, form: dict[str, str]) -> None:
        uri = str(request.url).replace("http:", "https:", 1)
        super().__init__(request.method, uri, headers=request.headers)
        self._args, self._form = dict(request.query_params), form
        self.payload = BasicOAuth2Payload({**self._args, **form})

    @property
    def args(self) -> dict[str, str]:
        return self._args

    @property
    def form(self) -> dict[str, str]:
        return self._form


class _Server(AuthorizationServer):  # type: ignore[misc]
    def __init__(self, held: OauthServer) -> None:
        super().__init__()
        self.held = held
        generated = BearerTokenGenerator(
            access_token_generator=lambda **_: f"{held.mark}access-{secrets.token_urlsafe(24)}",
            refresh_token_generator=lambda **_: f"{held.mark}refresh-{secrets.token_urlsafe(24)}",
            expires_generator=lambda *_: held.lasts,
        )
        self.register_token_generator("default", generated)
        self.register_grant(_CodeGrant, [CodeChallenge(required=True)])
        self.register_grant(_RefreshGrant)
        self.register_endpoint(_Revocation)
        self.register_endpoint(_Registration)
        self.register_extension(_issuer(held.base))

    def query_client(self, client_id: str) -> Client | None:
        return self.held.clients.get(client_id)

    def save_token(self, token: dict[str, Any], request: Any) -> None:
        self.held.tokens.append(
            Token(
                client_id=request.client.client_id,
                access_token=token["access_token"],
                refresh_token=token.get("refresh_token", ""),
                scope=token.get("scope") or "",
                expires_at=time.time() + token["expires_in"],
            )
        )

    def create_oauth2_request(self, request: Any) -> Any:
        return request

    def create_json_request(self, request: Any) -> Any:
        made = JsonRequest("POST", "https://here/register", {})
        made.payload = _Payload(request)
        return made

    def handle_response(self, status: int, body: Any, headers: Any) -> Response:
        fields = dict(headers)
        if isinstance(body, dict):
            return JSONResponse(body, status, {**fields})
        return _Answer(body or "", status, fields)

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nobody listens."""


def _issuer(base: str) -> type[Any]:
    class Issuer(IssuerParameter):  # type: ignore[misc]
        def __init__(self, server: Any) -> None:
            self(server)

        def get_issuer(self) -> str:
            return base

    return Issuer


class _CodeGrant(grants.AuthorizationCodeGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS

    def generate_authorization_code(self) -> str:
        return f"{self.server.held.mark}code-{secrets.token_urlsafe(24)}"

    def save_authorization_code(self, code: str, request: Any) -> None:
        asked = request.payload.data
        self.server.held.codes[code] = Code(
            code,
            request.client.client_id,
            request.payload.redirect_uri,
            request.payload.scope or "",
            asked.get("code_challenge", ""),
            asked.get("code_challenge_method", ""),
        )

    def query_authorization_code(self, code: str, client: Client) -> Code | None:
        found = self.server.held.codes.get(code)
        return found if found is not None and found.client_id == client.client_id else None

    def delete_authorization_code(self, authorization_code: Code) -> None:
        del self.server.held.codes[authorization_code.code]
        self.server.held.spent.append(authorization_code.code)

    def authenticate_user(self, authorization_code: Code) -> str:
        return USER


class _RefreshGrant(grants.RefreshTokenGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> Token | None:
        for token in self.server.held.tokens:
            if token.refresh_token == refresh_token and not token.revoked:
                return token  # type: ignore[no-any-return]
        return None

    def authenticate_user(self, refresh_token: Token) -> str:
        return USER

    def revoke_old_credential(self, refresh_token: Token) -> None:
        refresh_token.revoked = True


class _Revocation(RevocationEndpoint):  # type: ignore[misc]
    CLIENT_AUTH_METHODS = METHODS

    def query_token(self, token_string: str, token_type_hint: str) -> Token | None:
        for token in self.server.held.tokens:
            if token_string in (token.access_token, token.refresh_token):
                return token  # type: ignore[no-any-return]
        return None

    def revoke_token(self, token: Token, request: Any) -> None:
        token.revoked = True


class _Registration(ClientRegistrationEndpoint):  # type: ignore[misc]
    def authenticate_token(self, request: Any) -> bool:
        return True

    def get_server_metadata(self) -> dict[str, Any]:
        return metadata(self.server.held)

    def generate_client_secret(self, request: Any) -> str:
        return f"{self.server.held.mark}client-{secrets.token_urlsafe(16)}"

    def save_client(self, info: dict[str, Any], asked: dict[str, Any], request: Any) -> Client:
        made = Client(
            info["client_id"],
            info["client_secret"],
            asked["token_endpoint_auth_method"],
            asked["redirect_uris"],
        )
        self.server.held.clients[made.client_id] = made
        return made


def metadata(held: OauthServer) -> dict[str, Any]:
    """RFC 8414."""
    return {
        "issuer": held.base,
        "authorization_endpoint": f"{held.base}/authorize",
        "token_endpoint": f"{held.base}/token",
        "revocation_endpoint": f"{held.base}/revoke",
        "registration_endpoint": f"{held.base}/register",
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": METHODS[1:],
        "authorization_response_iss_parameter_supported": True,
    }


class _Routes:
    def __init__(self, held: OauthServer) -> None:
        self._held = held
        self._server = _Server(held)

    async def resource(self, request: Request) -> Response:
        """RFC 9728."""
        return JSONResponse(
            {
                "resource": self._held.mcp_server_url,
                "authorization_servers": [self._held.base],
                "scopes_supported": ["tools"],
            }
        )

    async def about(self, request: Request) -> Response:
        return JSONResponse(metadata(self._held))

    async def authorize(self, request: Request) -> Response:
        """The user is here and decides at once."""
        asked = _Request(request, {})
        grant = self._server.get_consent_grant(asked, USER)
        user = None if self._held.denies else USER
        answer: Response = self._server.create_authorization_response(asked, user, grant)
        return answer

    async def token(self, request: Request) -> Response:
        if self._held.down:
            return Response("down", 503)
        form = await _form(request)
        self._held.exchanges.append(form)
        answer: Response = self._server.create_token_response(_Request(request, form))
        return answer

    async def revoke(self, request: Request) -> Response:
        asked = _Request(request, await _form(request))
        answer: Response = self._server.create_endpoint_response("revocation", asked)
        return answer

    async def register(self, request: Request) -> Response:
        asked = await request.json()
        answer: Response = self._server.create_endpoint_response("client_registration", asked)
        return answer

    async def mcp(self, request: Request) -> Response:
        """The MCP server: who has a good token is let in."""
        said = request.headers.get("authorization", "").removeprefix("Bearer ")
        for token in self._held.tokens:
            if token.access_token == said and not token.revoked and not token.is_expired():
                return JSONResponse({"jsonrpc": "2.0", "id": 1, "result": {}})
        where = f"{self._held.base}/.well-known/oauth-protected-resource/mcp"
        challenge = f'Bearer error="invalid_token", resource_metadata="{where}"'
        return Response(said, 401, {"WWW-Authenticate": challenge})


async def _form(request: Request) -> dict[str, str]:
    return dict(parse_qsl((await request.body()).decode()))


def _application(held: OauthServer) -> Starlette:
    routes = _Routes(held)
    known = "/.well-known"
    return Starlette(
        routes=[
            Route(f"{known}/oauth-protected-resource/mcp", routes.resource),
            Route(f"{known}/oauth-authorization-server", routes.about),
            Route("/authorize", routes.authorize),
            Route("/token", routes.token, methods=["POST"]),
            Route("/revoke", routes.revoke, methods=["POST"]),
            Route("/register", routes.register, methods=["POST"]),
            Route("/mcp", routes.mcp, methods=["GET", "POST"]),
        ]
    )


@asynccontextmanager
async def oauth_server() -> AsyncIterator[OauthServer]:
    """Both servers, inside this process and loop, until the block ends."""
    held = OauthServer("")
    config = uvicorn.Config(_Late(held), port=0, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    sock = config.bind_socket()
    held.base = f"http://127.0.0.1:{sock.getsockname()[1]}"
    task = asyncio.create_task(server._serve([sock]))  # without signal handlers
    try:
        async with asyncio.timeout(10):
            while not server.started:
                if task.done():
                    raise RuntimeError("the authorization server did not start")
                await asyncio.sleep(0.005)
        yield held
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, 10)


class _Late:
    """The application, made when the port is known."""

    def __init__(self, held: OauthServer) -> None:
        self._held = held
        self._app: Starlette | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._app is None:
            self._app = _application(self._held)
        await self._app(scope, receive, send)
