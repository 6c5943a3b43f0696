"""Engine handles: a fresh one for each request, or the one that its `session_id` keeps.

A kept handle carries USE, SET and temporary tables from one request to the next. Settings in the
URL count for one request only; but clients send the same ones each time, so they stay on the handle
until a request comes without them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from infra.clickhouse.server.engine import Engine, Handle
from infra.clickhouse.server.errors import SESSION_IS_LOCKED, SESSION_NOT_FOUND, refuse
from infra.clickhouse.server.request import Asked
from infra.clickhouse.server.users import User

# clickhouse-connect makes a session per client; the least used ones give way beyond this many.
MAX_SESSIONS = 256


@dataclass(slots=True)
class Lease:
    """A handle for one request. `fresh` says that nothing was set on it yet.

    `applied` are the URL settings it carries, `before` the literals that stood there earlier.
    `until`: how long to keep it (seconds) while leased, when to drop it (clock) while idle.
    """

    handle: Handle
    fresh: bool
    key: tuple[str, str] | None = None
    until: float = 0.0
    applied: dict[str, str] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=dict)


class Sessions:
    """`clock` gives seconds, only ever forwards."""

    def __init__(self, engine: Engine, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._clock = clock
        self._lock = threading.Lock()
        self._idle: dict[tuple[str, str], Lease] = {}
        self._busy: set[tuple[str, str]] = set()

    def lease(self, user: User, asked: Asked) -> Lease:
        """Take a handle; `release` must follow.

        Raises ClickHouseError 373 while another request of the session runs, 372 for an unknown
        session that the client expects to exist (`session_check=1`).

        A user bound to tenants has no sessions: what shows which rows is set on a fresh handle only.
        """
        if not asked.session_id or user.tenants:
            return Lease(self._engine.handle(), fresh=True)
        key = (user.name, asked.session_id)
        with self._lock:
            self._drop_expired()
            if key in self._busy:
                raise refuse(SESSION_IS_LOCKED, f"Session {asked.session_id} is locked")
            kept = self._idle.pop(key, None)
            if kept is None and asked.session_check:
                raise refuse(SESSION_NOT_FOUND, f"Session {asked.session_id} not found")
            self._busy.add(key)
        if kept is not None:
            kept.until = asked.session_timeout
            return kept
        try:
            return Lease(self._engine.handle(), fresh=True, key=key, until=asked.session_timeout)
        except BaseException:
            self._busy.discard(key)
            raise

    def release(self, lease: Lease) -> None:
        """Close the handle, or keep it until its session times out. Never raises.

        A handle that is still fresh was never made its user's and is not kept.
        """
        if lease.key is None or lease.fresh:
            lease.handle.close()
            self._busy.discard(lease.key or ("", ""))
            return
        with self._lock:
            self._busy.discard(lease.key)
            lease.until += self._clock()
            self._idle[lease.key] = lease
            if len(self._idle) > MAX_SESSIONS:
                self._idle.pop(next(iter(self._idle))).handle.close()

    def close(self) -> None:
        with self._lock:
            for lease in self._idle.values():
                lease.handle.close()
            self._idle.clear()

    def _drop_expired(self) -> None:
        now = self._clock()
        for key in [key for key, lease in self._idle.items() if lease.until < now]:
            self._idle.pop(key).handle.close()


def apply_settings(lease: Lease, wanted: Mapping[str, str]) -> None:
    """Set exactly these URL settings on the handle, and undo those of the request before."""
    for name in [name for name in lease.applied if name not in wanted]:
        del lease.applied[name]
        lease.handle.query(f"SET {name} = {lease.before.pop(name)}", "Null")
    new = {name: value for name, value in wanted.items() if lease.applied.get(name) != value}
    if new and lease.key is not None:
        _remember(lease, [name for name in new if name not in lease.before])
    set_all(lease.handle, new)
    lease.applied.update(new)


def set_all(handle: Handle, settings: Mapping[str, str]) -> None:
    if settings:
        pairs = ", ".join(f"{name} = {quoted(value)}" for name, value in settings.items())
        handle.query(f"SET {pairs}", "Null")


def _remember(lease: Lease, names: list[str]) -> None:
    """Note what these settings are now; an unset one goes back to its default."""
    lease.before |= dict.fromkeys(names, "DEFAULT")
    listed = ", ".join(map(quoted, names)) or "''"
    rows = lease.handle.query(
        f"SELECT name, value FROM system.settings WHERE changed AND name IN ({listed})",
        "JSONEachRow",
    )
    for line in rows.bytes().splitlines():
        row = json.loads(line)
        lease.before[row["name"]] = quoted(row["value"])


def quoted(value: str) -> str:
    """A string literal of SQL."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
