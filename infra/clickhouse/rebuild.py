"""Makes a derived table anew from the events, while it is read and filled.

A second table of the same kind stands beside it, with a view of its own, so that from then on every insert reaches
both. What came before is copied in pieces; then the two change names in one step, and the old one goes. At every
moment the table that readers find has all that was inserted.

    turns__rebuild         the table in the making; after the exchange the old one, until it is dropped
    turns__rebuild_view    fills it
    turns__rebuild_pieces  what was planned and what is done, so that a rebuild that was killed goes on

Sessions that are erased meanwhile are taken out before and after the exchange.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from time import monotonic

from clickhouse_connect.driver.client import Client

from infra.clickhouse.backfill import (
    PIECE_ROWS,
    Derived,
    Piece,
    await_older_inserts,
    copy,
    derived_tables,
    pieces,
)

Say = Callable[[str], None]
HEAD = 0

_PIECES_TABLE = """
CREATE TABLE IF NOT EXISTS `{name}`
(
    number UInt32, first Array(String), end Array(String), rows UInt64, done Bool,
    owner String, shadow String, shape String
)
ENGINE = ReplacingMergeTree ORDER BY number"""
_COLUMNS = ("number", "first", "end", "rows", "done", "owner", "shadow", "shape")
_OTHERS = """
SELECT count() FROM system.processes
WHERE query LIKE 'INSERT INTO `{name}`%' AND query NOT LIKE '%system.processes%'"""


class RebuildError(Exception):
    """A table can't be rebuilt now; the message says why and what to do. Readers see the table as it was."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What became of one table: rows a reader saw before and sees now, and in how many seconds."""

    table: str
    before: int
    now: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Standing:
    """A rebuild under way: who is at it, the uuid of the table in the making, and pieces by number."""

    owner: str
    shadow: str
    planned: dict[int, tuple[Piece, bool]]


def chosen(server: Client, names: Sequence[str]) -> list[Derived]:
    """The derived tables of these names, all for none. Raises RebuildError for a name that is no such table."""
    there = {one.table: one for one in derived_tables(server)}
    there = {name: one for name, one in there.items() if not name.endswith("__rebuild")}
    if not there:
        raise RebuildError("this database has no derived tables: run `turnstile migrate` first")
    for name in names:
        if name not in there:
            raise RebuildError(f"{name} is no derived table; there are {', '.join(there)}")
    return [there[name] for name in dict.fromkeys(names)] if names else list(there.values())


class Rebuild:
    """The rebuild of one table. `server` works in the archive's database."""

    def __init__(
        self, server: Client, derived: Derived, say: Say, piece_rows: int = PIECE_ROWS
    ) -> None:
        self._server = server
        self._derived = derived
        self._say = say
        self._piece_rows = piece_rows
        self._owner = uuid.uuid4().hex
        self._table = derived.table
        self._shadow = f"{derived.table}__rebuild"
        self._view = f"{derived.table}__rebuild_view"
        self._pieces = f"{derived.table}__rebuild_pieces"

    def run(self) -> Rebuilt:
        """Make the table anew. Raises RebuildError, InsertsGoOn, or what clickhouse-connect raises; whatever
        happens, run it again: it goes on where it was."""
        began, before = monotonic(), self._count()
        self._alone()
        standing = self._standing()
        if standing is not None and standing.shadow == self._uuid(self._table):
            self._say(f"{self._table}: was exchanged already, the old table goes")
        else:
            self._fill(self._resumed(standing) if standing else self._begun())
            self._exchange()
        self._forget_erased(self._table)
        self._clear()
        return Rebuilt(self._table, before, self._count(), monotonic() - began)

    def foresee(self) -> str:
        """What `run` would do, in words; changes nothing."""
        standing = self._standing()
        planned = pieces(self._server, self._piece_rows)
        events = sum(piece.rows for piece in planned)
        if standing is None:
            return f"{self._table}: would copy {events:,} events in {len(planned)} pieces"
        left = sum(not done for _, done in standing.planned.values())
        return f"{self._table}: would go on with {left} of {len(standing.planned)} pieces"

    def _begun(self) -> _Standing:
        self._clear()
        derived = self._derived
        self._server.command(f"CREATE TABLE `{self._shadow}` AS `{self._table}`")
        self._server.command(
            f"CREATE MATERIALIZED VIEW `{self._view}` TO `{self._shadow}` AS {derived.select}"
        )
        await_older_inserts(self._server)
        self._server.command(_PIECES_TABLE.format(name=self._pieces))
        planned = {
            number: (piece, False)
            for number, piece in enumerate(pieces(self._server, self._piece_rows), HEAD + 1)
        }
        standing = _Standing(self._owner, self._uuid(self._shadow), planned)
        rows = [self._row(number, piece, False) for number, (piece, _) in planned.items()]
        self._note([*rows, self._head(standing)])
        return standing

    def _resumed(self, standing: _Standing) -> _Standing:
        left = sum(not done for _, done in standing.planned.values())
        self._say(f"{self._table}: goes on, {left} of {len(standing.planned)} pieces are left")
        standing = _Standing(self._owner, standing.shadow, standing.planned)
        self._note([self._head(standing)])
        return standing

    def _standing(self) -> _Standing | None:
        """The rebuild that was under way, if it can go on: its table and view are there, of the shape of today."""
        if not all(self._uuid(name) for name in (self._pieces, self._shadow)):
            return None
        sql = f"SELECT {', '.join(_COLUMNS)} FROM `{self._pieces}` FINAL ORDER BY number"
        rows = self._server.query(sql).result_rows
        if not rows or rows[0][0] != HEAD:
            return None
        *_, owner, shadow, shape = rows[0]
        swapped = shadow == self._uuid(self._table)
        made = shadow == self._uuid(self._shadow) and bool(self._uuid(self._view))
        if not (swapped or (made and shape == self._shape())):
            return None
        planned = {
            number: (Piece(tuple(first) or None, tuple(end) or None, count), bool(done))
            for number, first, end, count, done, *_ in rows[1:]
        }
        return _Standing(owner, shadow, planned)

    def _fill(self, standing: _Standing) -> None:
        total = sum(piece.rows for piece, _ in standing.planned.values())
        copied, began, here = 0, monotonic(), 0
        for number, (piece, done) in standing.planned.items():
            if not done:
                copy(self._server, self._derived, self._shadow, piece)
                self._note([self._row(number, piece, True)])
                here += piece.rows
                self._mine()
            copied += piece.rows
            rate = here / max(monotonic() - began, 1e-3)
            left = (total - copied) / rate if rate else 0
            self._say(
                f"{self._table}: {copied:,} of {total:,} events, {rate:,.0f}/s, {left:.0f} s left"
            )

    def _exchange(self) -> None:
        self._forget_erased(self._shadow)
        self._mine()
        self._server.command(f"EXCHANGE TABLES `{self._table}` AND `{self._shadow}`")

    def _forget_erased(self, table: str) -> None:
        """A piece may have been read just before its session was erased."""
        if not self._uuid("erasures"):
            return
        erased = "(tenant_id, session_id) IN (SELECT tenant_id, session_id FROM erasures)"
        if self._server.query(f"SELECT count() FROM `{table}` WHERE {erased}").result_rows[0][0]:
            self._server.command(
                f"ALTER TABLE `{table}` DELETE WHERE {erased}", settings={"mutations_sync": 2}
            )

    def _clear(self) -> None:
        """The view first: what is inserted must never look for a table that is gone."""
        self._server.command(f"DROP VIEW IF EXISTS `{self._view}` SYNC")
        self._server.command(f"DROP TABLE IF EXISTS `{self._shadow}` SYNC")
        self._server.command(f"DROP TABLE IF EXISTS `{self._pieces}` SYNC")

    def _alone(self) -> None:
        """Raises RebuildError when another process copies into the same table."""
        sql = _OTHERS.format(name=self._shadow)
        if self._server.query(sql).result_rows[0][0]:
            raise RebuildError(f"{self._table} is being rebuilt by another process: let it finish")

    def _mine(self) -> None:
        sql = f"SELECT owner FROM `{self._pieces}` FINAL WHERE number = {HEAD}"
        found = self._server.query(sql).result_rows
        if not found or found[0][0] != self._owner:
            raise RebuildError(f"another process took over the rebuild of {self._table}")

    def _head(self, standing: _Standing) -> tuple[object, ...]:
        return (HEAD, [], [], 0, False, self._owner, standing.shadow, self._shape())

    def _row(self, number: int, piece: Piece, done: bool) -> tuple[object, ...]:
        return (number, [*(piece.first or ())], [*(piece.end or ())], piece.rows, done, "", "", "")

    def _note(self, rows: Sequence[tuple[object, ...]]) -> None:
        self._server.insert(self._pieces, rows, column_names=_COLUMNS)

    def _shape(self) -> str:
        """What the table and its view are today: another one needs another rebuild."""
        sql = (
            "SELECT name, type FROM system.columns"
            " WHERE database = currentDatabase() AND table = {table:String} ORDER BY position"
        )
        columns = self._server.query(sql, parameters={"table": self._table}).result_rows
        return sha256(repr((self._derived.select, columns)).encode()).hexdigest()

    def _uuid(self, name: str) -> str:
        """Of the table or view of this name; "" when there is none."""
        sql = "SELECT toString(uuid) FROM system.tables WHERE database = currentDatabase() AND name = {name:String}"
        found = self._server.query(sql, parameters={"name": name}).result_rows
        return str(found[0][0]) if found else ""

    def _count(self) -> int:
        return int(
            self._server.query(f"SELECT count() FROM `{self._table}` FINAL").result_rows[0][0]
        )
