"""The store in memory, quick where thousands of sessions rest and a few move."""

from __future__ import annotations

from collections.abc import Sequence

from services.agent_worker.ports import NewInput
from shared.clock import Clock
from shared.session.key import SessionKey
from tests.fakes.store import MemoryStore, Row


class YearStore(MemoryStore):
    """A row moves from when something is filed for it until nobody holds it and it is not due by itself."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self._moving: dict[SessionKey, Row] = {}

    @property
    def moving(self) -> dict[SessionKey, Row]:
        """See MemoryStore.moving."""
        rows = self._moving
        rest = [key for key, row in rows.items() if row.owner is None and row.wake_at is None]
        for key in rest:
            del rows[key]
        return rows

    async def file(self, inputs: Sequence[NewInput]) -> set[SessionKey]:
        """See Store.file."""
        news = await super().file(inputs)
        self._moving.update((key, self.rows[key]) for key in news)
        return news
