"""Vaults at the provider, through its SDK. Secrets pass here and are in nothing that is raised, logged or counted:
what the provider says to a request that holds one is told only if it repeats no part of it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from services.gateway.vault_bodies import (
    CredentialView,
    McpOauth,
    NewCredential,
    NewMcpOauth,
    NewRefresh,
    NoClientAuth,
    Rotation,
    Validation,
)
from shared import logs, metrics
from shared.errors import Rejected, Transient, TurnstileError
from shared.moment import rfc3339
from shared.secret import revealed, safe_words, secrets_in
from shared.settings import ProviderSettings

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

SECONDS = 15.0
# What is asked of one credential, and not of its vault.
OF_CREDENTIALS = ("credentials.update", "credentials.delete", "credentials.validate")
# Ours on a vault: whose it is, where the bindings were lost.
TENANT = "turnstile_tenant"
_WORD = re.compile(r"[a-z0-9_]{1,64}")
_T = TypeVar("_T")
_log = logs.get("gateway.vaults")


class ProviderVaults:
    """The Vaults port. Raises Rejected (`unknown_vault`, `unknown_credential`, `credential_exists`,
    `refused_by_provider`) or Transient (`provider_unavailable`); each call ends within SECONDS.

    Nothing is tried twice: a second request for what was made already would be refused for that. The SDK is
    imported when first needed: it is large, and many gateways never need it.
    """

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        self._client: AsyncAnthropic | None = None

    async def create(self, tenant_id: str, display_name: str) -> str:
        """See Vaults.create."""
        made = await self._ask(
            "vaults.create",
            lambda api: api.beta.vaults.create(
                display_name=display_name, metadata={TENANT: tenant_id}
            ),
        )
        return made.id

    async def delete(self, vault_id: str) -> None:
        """See Vaults.delete."""
        try:
            await self._ask("vaults.delete", lambda api: api.beta.vaults.delete(vault_id))
        except Rejected as error:
            if error.reason != "unknown_vault":
                raise

    async def add(self, vault_id: str, asked: NewCredential) -> CredentialView:
        """See Vaults.add."""
        body: dict[str, Any] = revealed(asked)
        made = await self._ask(
            "credentials.create",
            lambda api: api.beta.vaults.credentials.create(vault_id, **body),
            secrets_in(asked),
        )
        return _view(made)

    async def credentials(self, vault_id: str) -> list[CredentialView]:
        """See Vaults.credentials."""

        async def all_of(api: AsyncAnthropic) -> list[CredentialView]:
            return [_view(one) async for one in api.beta.vaults.credentials.list(vault_id)]

        return await self._ask("credentials.list", all_of)

    async def rotate(self, vault_id: str, credential_id: str, asked: Rotation) -> CredentialView:
        """See Vaults.rotate."""
        body: dict[str, Any] = revealed(asked)
        changed = await self._ask(
            "credentials.update",
            lambda api: api.beta.vaults.credentials.update(
                credential_id, vault_id=vault_id, **body
            ),
            secrets_in(asked),
        )
        return _view(changed)

    async def put(self, vault_id: str, asked: NewCredential) -> CredentialView:
        """See Vaults.put. A client is told by what the provider shows of how it refreshes; another client's refresh
        token would be of no use in the credential that is there, so that one is deleted first."""
        held = await self._ask("credentials.list", partial(_for_server, vault_id, asked))
        if held is None:
            return await self.add(vault_id, asked)
        rotation = _rotation(held, asked)
        if rotation is not None:
            return await self.rotate(vault_id, held.id, rotation)
        await self.remove(vault_id, held.id)
        return await self.add(vault_id, asked)

    async def remove(self, vault_id: str, credential_id: str) -> None:
        """See Vaults.remove."""
        await self._ask(
            "credentials.delete",
            lambda api: api.beta.vaults.credentials.delete(credential_id, vault_id=vault_id),
        )

    async def validate(self, vault_id: str, credential_id: str) -> Validation:
        """See Vaults.validate. What the MCP server said is left out: servers repeat what they refuse."""
        found = await self._ask(
            "credentials.validate",
            lambda api: api.beta.vaults.credentials.mcp_oauth_validate(
                credential_id, vault_id=vault_id
            ),
        )
        probe = found.mcp_probe.http_response if found.mcp_probe else None
        return Validation(
            credential_id=found.credential_id,
            status=found.status,
            refreshable=found.has_refresh_token,
            http_status=probe.status_code if probe else None,
            refresh=found.refresh.status if found.refresh else None,
        )

    async def stop(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    async def _ask(
        self,
        operation: str,
        call: Callable[[AsyncAnthropic], Awaitable[_T]],
        secrets: Sequence[str] = (),
    ) -> _T:
        """What the provider answers. What it raises is left behind before anything else is raised: it may hold the
        request."""
        began = time.perf_counter()
        failure: TurnstileError
        try:
            async with asyncio.timeout(SECONDS):
                answer = await call(await self._connected())
        except Transient as error:  # nothing was asked
            raise error
        except TimeoutError:
            outcome, failure = "timeout", _unavailable(f"no answer within {SECONDS:.0f} s")
        except Exception as error:
            outcome, failure = _failure(error, operation, secrets)
        else:
            _count(operation, "ok", began)
            return answer
        _count(operation, outcome, began)
        raise failure

    async def _connected(self) -> AsyncAnthropic:
        if self._client is None:
            key = self._settings.anthropic_api_key
            if key is None:
                raise _unavailable("this gateway has no ANTHROPIC_API_KEY: set it to serve vaults")
            sdk = await asyncio.to_thread(_sdk)
            self._client = self._client or sdk.AsyncAnthropic(
                api_key=key.get_secret_value(),
                base_url=self._settings.anthropic_base_url,
                max_retries=0,
                timeout=SECONDS,
            )
        return self._client


async def _for_server(vault_id: str, asked: NewCredential, api: AsyncAnthropic) -> Any:
    """The credential that the vault has for the same MCP server, None for none."""
    wanted = getattr(asked.auth, "mcp_server_url", None)
    async for one in api.beta.vaults.credentials.list(vault_id):
        if getattr(one.auth, "mcp_server_url", None) == wanted:
            return one
    return None


def _rotation(held: Any, asked: NewCredential) -> Rotation | None:
    """How to put the tokens into a credential of the same client; None where it is another's."""
    auth, old = asked.auth, getattr(held.auth, "refresh", None)
    if not isinstance(auth, McpOauth) or held.auth.type != "mcp_oauth":
        return None
    new = auth.refresh
    if new is None or old is None or auth.expires_at is None:
        return None
    client = new.client_id, new.token_endpoint, new.token_endpoint_auth.__struct_config__.tag
    if client != (old.client_id, old.token_endpoint, old.token_endpoint_auth.type):
        return None
    if (new.resource, new.scope) != (old.resource, old.scope):
        return None
    said = new.token_endpoint_auth
    return Rotation(
        auth=NewMcpOauth(
            access_token=auth.access_token,
            expires_at=auth.expires_at,
            refresh=NewRefresh(
                refresh_token=new.refresh_token,
                token_endpoint_auth=None if isinstance(said, NoClientAuth) else said,
            ),
        )
    )


def _sdk() -> Any:
    import anthropic

    return anthropic


def _failure(
    error: Exception, operation: str, secrets: Sequence[str]
) -> tuple[str, TurnstileError]:
    """How it is counted, and what is told of it."""
    status: int | None = getattr(error, "status_code", None)
    if status is None:
        _log.warning("provider_failed", operation=operation, error=type(error).__name__)
        return "unreachable", _unavailable(type(error).__name__)
    if status in (401, 403):
        return f"http_{status}", _unavailable("it does not take this gateway's key")
    if status in (408, 429) or status >= 500:
        return f"http_{status}", _unavailable(f"it answered {status}")
    return f"http_{status}", _refused(error, status, operation, secrets)


def _refused(error: Any, status: int, operation: str, secrets: Sequence[str]) -> Rejected:
    if status == 404:
        what = "credential" if operation in OF_CREDENTIALS else "vault"
        return Rejected(f"unknown_{what}", f"the provider has no such {what}", field=f"{what}_id")
    if status == 409:
        words = (
            "the vault has a credential for this server or variable: rotate it, or remove it first"
        )
        return Rejected("credential_exists", words, field="auth")
    code = error.error_code if isinstance(error.error_code, str) else ""
    named = f" ({code})" if _WORD.fullmatch(code) and safe_words(code, secrets) == code else ""
    words = safe_words(_message(error), secrets)
    return Rejected("refused_by_provider", f"the provider refused it{named}: {words}", field="auth")


def _message(error: Any) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    inner = body.get("error")
    said = inner.get("message") if isinstance(inner, dict) else None
    return str(said)[:500] if said else "it does not say why"


def _unavailable(why: str) -> Transient:
    return Transient(
        "provider_unavailable", f"the provider could not be asked: {why}", retry_after=5
    )


def _count(operation: str, outcome: str, began: float) -> None:
    metrics.inc("turnstile_provider_requests_total", operation=operation, outcome=outcome)
    seconds = time.perf_counter() - began
    metrics.observe("turnstile_provider_request_seconds", seconds, operation=operation)


def _view(one: Any) -> CredentialView:
    auth = one.auth
    expires = getattr(auth, "expires_at", None)
    return CredentialView(
        credential_id=one.id,
        vault_id=one.vault_id,
        type=auth.type,
        display_name=one.display_name,
        mcp_server_url=getattr(auth, "mcp_server_url", None),
        secret_name=getattr(auth, "secret_name", None),
        expires_at=rfc3339(expires) if expires else None,
        refreshable=getattr(auth, "refresh", None) is not None,
        created_at=rfc3339(one.created_at),
        updated_at=rfc3339(one.updated_at),
    )
