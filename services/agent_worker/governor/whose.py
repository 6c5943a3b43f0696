"""The tenant and the lane of a request, bound to the task, so that no call has to hand them on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_tenant: ContextVar[str] = ContextVar("turnstile_tenant", default="")
_lane: ContextVar[str | None] = ContextVar("turnstile_lane", default=None)


@contextmanager
def working_for(tenant: str) -> Iterator[None]:
    """Requests of this task, and of tasks it starts, are the tenant's."""
    before = _tenant.set(tenant)
    try:
        yield
    finally:
        _tenant.reset(before)


@contextmanager
def in_lane(lane: str) -> Iterator[None]:
    """Requests of this task, and of tasks it starts, take this lane whatever they ask."""
    before = _lane.set(lane)
    try:
        yield
    finally:
        _lane.reset(before)


def tenant() -> str:
    """Whose work this is; "" for the worker's own."""
    return _tenant.get()


def lane_or(usual: str) -> str:
    """The lane this task was put in, else the usual one."""
    return _lane.get() or usual
