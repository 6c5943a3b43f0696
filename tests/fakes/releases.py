"""Releases of agents in memory."""

from __future__ import annotations

from shared.errors import Transient
from shared.session.releases import Release


class MemoryReleases:
    """The Releases port. `known`: by tenant ("": everybody's) and name."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], Release] = {}
        self.down = False

    def put(self, release: Release) -> None:
        self.known[(release.tenant_id, release.name)] = release

    async def of(self, tenant_id: str, name: str) -> Release | None:
        """See Releases.of."""
        if self.down:
            raise Transient("database_away", "it does not answer")
        return self.known.get((tenant_id, name)) or self.known.get(("", name))
