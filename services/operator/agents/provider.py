"""The provider's agents, environments and models, through the SDK.

The SDK is imported when the provider is asked, and not for `--help`: see `audits/provider.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from services.operator.agents.declared import Declared, Kind
from services.operator.agents.plan import Remote
from services.operator.agents.radar import Model
from services.operator.failures import Impossible
from shared.cache_minimum import Counted
from shared.count_tokens import count_tokens
from shared.settings import ProviderSettings

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

TIMEOUT_S = 30.0
PAGE = 100


class Changed(Exception):
    """Somebody else changed it since it was read, or made one of its name."""


class Provider:
    """Reads, and writes once: nothing is tried again by itself. Raises Impossible with the provider's own words."""

    def __init__(self, client: AsyncAnthropic) -> None:
        self._client = client
        self._beta = client.beta

    @property
    def base_url(self) -> str:
        return str(self._client.base_url).rstrip("/")

    async def everything(self) -> list[Remote]:
        """All agents in their newest version and all environments, archived ones too."""
        with _explained("listing agents and environments"):
            agents = [
                _remote("agent", one)
                async for one in self._beta.agents.list(limit=PAGE, include_archived=True)
            ]
            environments = [
                _remote("environment", one)
                async for one in self._beta.environments.list(limit=PAGE, include_archived=True)
            ]
        return agents + environments

    async def agent(self, id: str, version: int | None = None) -> Remote:
        """One version of an agent, the newest where none is named."""
        with _explained(f"reading {id}"):
            from anthropic import omit

            at = omit if version is None else version
            return _remote("agent", await self._beta.agents.retrieve(id, version=at))

    async def versions(self, id: str) -> list[Remote]:
        """All versions of an agent, the newest first."""
        with _explained(f"reading the versions of {id}"):
            found = self._beta.agents.versions.list(id, limit=PAGE)
            return [_remote("agent", one) async for one in found]

    async def create(self, one: Declared, tenant: str) -> Remote:
        """Raises Changed when an environment of that name came meanwhile."""
        calls: Any = self._beta.agents if one.kind == "agent" else self._beta.environments
        with _explained(f"making {one.file}"):
            return _remote(one.kind, await calls.create(**one.marked(tenant)))

    async def update(self, one: Declared, there: Remote, tenant: str) -> Remote:
        """Raises Changed when it is no longer at the version `there`."""
        body = one.marked(tenant)
        # Metadata is patched: what the file does not have is taken out by name.
        body["metadata"] = {**dict.fromkeys(there.metadata), **body["metadata"]}
        with _explained(f"updating {one.file}"):
            if one.kind == "agent":
                made: Any = await self._beta.agents.update(there.id, version=there.version, **body)
            else:
                made = await self._beta.environments.update(there.id, **body)
        return _remote(one.kind, made)

    async def archive_agent(self, id: str) -> None:
        with _explained(f"archiving {id}"):
            await self._beta.agents.archive(id)

    async def tokens(self, model: str, system: str) -> Counted:
        """An estimate where the server counts none, or is away."""
        from anthropic import AnthropicError

        return await count_tokens(self._client, model, system, failures=(AnthropicError,))

    async def models(self) -> list[Model] | None:
        """The provider's models; None where the server has no list of them (a self-hosted one)."""
        try:
            with _explained("listing models"):
                listed = self._client.models.list(limit=PAGE)
                return [_model(one) async for one in listed]
        except Absent:
            return None


class Absent(Impossible):
    """The provider answers 404."""


class _explained:
    """Turns what the SDK raises into Impossible, Absent or Changed."""

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        if error is None:
            return
        import anthropic

        if isinstance(error, anthropic.ConflictError):
            raise Changed(f"{self._doing}: {error.message}") from None
        if isinstance(error, anthropic.NotFoundError):
            raise Absent(f"{self._doing}: {error.message}") from None
        if isinstance(error, anthropic.AnthropicError):
            raise Impossible(f"{self._doing}: {error}") from None


@asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    """The provider of the settings. Raises Impossible without a key."""
    settings = ProviderSettings()
    key = settings.anthropic_api_key
    if key is None:
        raise Impossible("set ANTHROPIC_API_KEY (and ANTHROPIC_BASE_URL for another server)")
    from anthropic import AsyncAnthropic

    client = AsyncAnthropic(
        api_key=key.get_secret_value(),
        base_url=settings.anthropic_base_url,
        max_retries=0,
        timeout=TIMEOUT_S,
    )
    async with client:
        yield Provider(client)


def _remote(kind: Kind, found: Any) -> Remote:
    body = found.to_dict(mode="json")
    return Remote(kind, body["id"], int(body.get("version") or 0), body)


def _model(found: Any) -> Model:
    return Model(found.id, found.lifecycle, found.retires_at)
