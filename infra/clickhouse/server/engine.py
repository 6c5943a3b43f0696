"""The embedded engine (chDB): opened, asked, closed.

chDB holds one data directory per process under an exclusive lock and gives any number of
handles to it; a handle has its own settings and current database, and opening one costs half
a millisecond. Calls release the interpreter lock, so they belong in threads.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, cast

from infra.clickhouse.server.errors import engine_errors
from infra.clickhouse.server.settings import set_time_zone

# chDB starts as clickhouse-local; where its defaults differ in what clients see, the server's hold.
_AS_SERVER = "SET implicit_select = 0, allow_introspection_functions = 0"


class Result(Protocol):
    def bytes(self) -> bytes: ...
    def rows_read(self) -> int: ...
    def bytes_read(self) -> int: ...
    def storage_rows_read(self) -> int: ...
    def storage_bytes_read(self) -> int: ...
    def rows_written(self) -> int: ...
    def bytes_written(self) -> int: ...
    def elapsed(self) -> float: ...


class Stream(Protocol):
    def __iter__(self) -> Iterator[Result]: ...
    def __next__(self) -> Result: ...
    def close(self) -> None: ...


class Inserted(Protocol):
    rows_written: int
    bytes_written: int


class Inserter(Protocol):
    def append(self, data: bytes) -> None: ...
    def finish(self) -> Inserted: ...
    def cancel(self) -> None: ...


class Handle(Protocol):
    """One connection of chDB. Not safe for two threads at once."""

    def query(
        self, query: str | bytes, format: str, params: dict[str, str] | None = None
    ) -> Result: ...
    def send_query(
        self, query: str | bytes, format: str, params: dict[str, str] | None = None
    ) -> Stream: ...
    def send_insert(self, query: str | bytes, format: str) -> Inserter: ...
    def close(self) -> None: ...


class DirectoryInUse(Exception):
    """Another process holds the data directory; the message names it and its pid."""


class Engine:
    """The open engine. `close` must be the last call; handles still open are cut off.

    Its time zone is UTC, whatever the host's: the same query has the same answer everywhere, and
    partitions by day stay what they are.
    """

    def __init__(self, path: Path) -> None:
        self._path = str(path.resolve())
        path.mkdir(parents=True, exist_ok=True)
        set_time_zone("UTC")
        self._anchor = _open(self._path)  # keeps the engine alive between requests
        version, timezone = self._ask("SELECT version(), timezone()").split("\t")
        self.version: str = version
        self.timezone: str = timezone
        self.table_functions = frozenset(
            self._ask("SELECT lower(name) FROM system.table_functions").split("\n")
        )

    def handle(self) -> Handle:
        with engine_errors():
            return _connect(self._path)

    def classify(self, statement: bytes) -> tuple[bool, int]:
        """(reads only, number of statements); (False, 0) for what does not parse."""
        with engine_errors():
            said = self._anchor._conn.classify_query(statement)  # type: ignore[attr-defined]
        return str(said["query_class"]).endswith(".READ_ONLY"), int(said["statement_count"])

    def interrupt(self) -> None:
        """Ask every running query to end; returns at once."""
        with engine_errors():
            self._anchor.query("KILL QUERY WHERE 1 ASYNC", "Null")

    def close(self) -> None:
        self._anchor.close()

    def _ask(self, sql: str) -> str:
        with engine_errors():
            return self._anchor.query(sql, "TSVRaw").bytes().decode().rstrip("\n")


def _open(path: str) -> Handle:
    _check_lock(Path(path) / "status")
    with engine_errors():
        return _connect(path)


def _connect(path: str) -> Handle:
    import chdb  # reads the time zone of the process as it is loaded

    handle = cast(Handle, chdb.connect(path))
    handle.query(_AS_SERVER, "Null")
    return handle


def _check_lock(status: Path) -> None:
    """The engine locks this file too, but says so only on stderr and by an empty error."""
    try:
        with status.open() as file:
            holder = file.readline().strip().lower() or "pid unknown"
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return
    except BlockingIOError:
        raise DirectoryInUse(
            f"{status.parent} is in use by another process ({holder}): stop it, or give --path "
            "another directory"
        ) from None
