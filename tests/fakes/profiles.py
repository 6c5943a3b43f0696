"""Profiles in memory."""

from __future__ import annotations

from shared.errors import Transient


class MemoryProfiles:
    """The Profiles port. `known`: profiles by user, whichever tenant asks; `asked` are all who were asked for."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.asked: list[tuple[str, str]] = []
        self.down = False

    async def of(self, tenant_id: str, user_id: str) -> str:
        """See Profiles.of."""
        self.asked.append((tenant_id, user_id))
        if self.down:
            raise Transient("database_away", "it does not answer")
        return self.known.get(user_id, "")
