"""A queue in which tenants take turns, each with its requests in the order they came.

All requests weigh the same, so deficit round robin is plain round robin: a tenant with one request waits for at
most one of every other tenant's, however many those have.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Up to `bound` hashable items, each once. Taking and dropping cost the same however many wait, and so does
    putting while there is room."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._tenants: OrderedDict[str, OrderedDict[T, None]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, tenant: str, item: T) -> T | None:
        """Add an item; answers the one that had to go for it, which may be itself: the newest of the tenant that
        has most. None while there is room."""
        self._tenants.setdefault(tenant, OrderedDict())[item] = None
        self._count += 1
        if self._count <= self._bound:
            return None
        most = max(self._tenants, key=lambda name: len(self._tenants[name]))
        newest = next(reversed(self._tenants[most]))
        self.drop(most, newest)
        return newest

    def take(self) -> T | None:
        """Take the next item out; None when there is none."""
        if not self._tenants:
            return None
        tenant, items = next(iter(self._tenants.items()))
        item, _ = items.popitem(last=False)
        self._count -= 1
        if items:
            self._tenants.move_to_end(tenant)
        else:
            del self._tenants[tenant]
        return item

    def drop(self, tenant: str, item: T) -> None:
        """Take this item out, if it is there."""
        items = self._tenants.get(tenant)
        if items is None or item not in items:
            return
        del items[item]
        self._count -= 1
        if not items:
            del self._tenants[tenant]
