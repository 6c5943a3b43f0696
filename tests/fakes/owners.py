"""Owners in memory."""

from __future__ import annotations

from collections.abc import Iterable

from shared.errors import Transient
from shared.ownership import Binding, Thing


class MemoryOwners:
    """The Owners port. `asked` and `bound` are what was asked and bound, in order."""

    def __init__(self, bindings: Iterable[Binding] = ()) -> None:
        self.rows: dict[Thing, Binding] = {(one.kind, one.id): one for one in bindings}
        self.asked: list[Thing] = []
        self.down = False

    async def owner(self, thing: Thing) -> str | None:
        """See Owners.owner."""
        self._require_up()
        self.asked.append(thing)
        found = self.rows.get(thing)
        return found.tenant_id if found else None

    async def bind(self, binding: Binding) -> str:
        """See Owners.bind."""
        self._require_up()
        return self.rows.setdefault((binding.kind, binding.id), binding).tenant_id

    def _require_up(self) -> None:
        if self.down:
            raise Transient("database_away", "it does not answer")
