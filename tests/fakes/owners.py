"""Owners in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shared.errors import Transient
from shared.ownership import Binding, Thing
from shared.session.references import Kind


class MemoryOwners:
    """The ports Owners and Bindings. `asked` and `bound` are what was asked and bound, in order."""

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

    async def binding(self, thing: Thing) -> Binding | None:
        """See Bindings.binding."""
        self._require_up()
        return self.rows.get(thing)

    async def of_tenant(
        self, tenant_id: str, kind: Kind, after: str, limit: int
    ) -> Sequence[Binding]:
        """See Bindings.of_tenant."""
        self._require_up()
        found = [
            one for one in self.rows.values() if (one.tenant_id, one.kind) == (tenant_id, kind)
        ]
        return sorted((one for one in found if one.id > after), key=lambda one: one.id)[:limit]

    async def unbind(self, thing: Thing) -> None:
        """See Bindings.unbind."""
        self._require_up()
        self.rows.pop(thing, None)

    def _require_up(self) -> None:
        if self.down:
            raise Transient("database_away", "it does not answer")
