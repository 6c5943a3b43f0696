"""Conversations in memory."""

from __future__ import annotations

from collections.abc import Sequence

from services.agent_worker.ports import Entry
from shared.errors import Transient
from shared.session.key import SessionKey


class MemoryConversations:
    """The Conversations port. `down`: so many calls fail from now on."""

    def __init__(self) -> None:
        self.kept: dict[str, list[Entry]] = {}
        self.down = 0

    async def open(self, key: SessionKey, conversation: str, first: Entry) -> Entry:
        """See Conversations.open."""
        self._answer()
        return self.kept.setdefault(conversation, [first])[0]

    async def append(self, conversation: str, entries: Sequence[Entry]) -> bool:
        """See Conversations.append."""
        self._answer()
        kept = self.kept.get(conversation)
        if not kept or kept[-1].position != entries[0].position - 1:
            return False
        if {entry.source for entry in kept} & {entry.source for entry in entries}:
            return False
        kept.extend(entries)
        return True

    async def read(self, conversation: str, after: int = -1) -> list[Entry]:
        """See Conversations.read."""
        self._answer()
        return [entry for entry in self.kept.get(conversation, ()) if entry.position > after]

    async def forget(self, conversation: str) -> None:
        """See Conversations.forget."""
        self._answer()
        self.kept.pop(conversation, None)

    def _answer(self) -> None:
        if self.down:
            self.down -= 1
            raise Transient("database_away", "it does not answer")
