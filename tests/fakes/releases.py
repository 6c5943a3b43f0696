"""Releases of agents in memory."""

from __future__ import annotations

from shared.errors import Transient
from shared.session.releases import Release


class MemoryReleases:
    """The worker's Releases port and the gateway's ReleaseStore. `known`: by tenant ("": everybody's) and name."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], Release] = {}
        self.down = False

    async def releases(self, tenant_id: str) -> list[Release]:
        """See the gateway's ReleaseStore."""
        if self.down:
            raise Transient("database_unavailable", "it does not answer")
        return [one for (whose, _), one in self.known.items() if whose in (tenant_id, "")]

    async def has(self, tenant_id: str, name: str) -> bool:
        return await self.of(tenant_id, name) is not None

    def put(self, release: Release) -> None:
        self.known[(release.tenant_id, release.name)] = release

    async def of(self, tenant_id: str, name: str) -> Release | None:
        """See Releases.of."""
        if self.down:
            raise Transient("database_away", "it does not answer")
        return self.known.get((tenant_id, name)) or self.known.get(("", name))
