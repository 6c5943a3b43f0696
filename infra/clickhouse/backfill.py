"""Fills a derived table from the events that are already in the archive.

A materialized view sees what is inserted after it was made. The rest is copied here, through the view's own
SELECT as the server knows it, in pieces: all of some sessions, side by side in the table, so that a piece is read
by its key and its size is bounded. A row that is brought in twice changes nothing in these tables.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from clickhouse_connect.driver.client import Client

SOURCE = "session_events"
# Rows read for one piece, at most, unless one session alone has more: a few seconds of work.
PIECE_ROWS = 1_000_000
# How long an insert that began before a view was made may still run.
INSERTS_TIMEOUT_S = 600.0
_LOOK_AGAIN_S = 0.2
_SETTINGS = {"insert_deduplicate": 0, "max_execution_time": 0}

_VIEWS = r"""
SELECT name, extract(create_table_query, ' TO `?\\w+`?\\.`?(\\w+)') AS target, as_select
FROM system.tables
WHERE database = currentDatabase() AND engine = 'MaterializedView'
    AND match(as_select, concat('FROM `?', currentDatabase(), '`?\\.', {source:String}, '\\b'))
ORDER BY name
"""
_COLUMNS = """
SELECT name FROM system.columns
WHERE database = currentDatabase() AND table = {view:String} ORDER BY position
"""
_PIECES = """
SELECT min(place), sum(events)
FROM
(
    SELECT place, events, sum(events) OVER (ORDER BY place) - events AS before
    FROM
    (
        SELECT (toString(tenant_id), session_id) AS place, count() AS events
        FROM session_events GROUP BY place
    )
)
GROUP BY intDiv(before, {rows:UInt64})
ORDER BY min(place)
"""
_OLDER_INSERTS = """
SELECT count() FROM system.processes
WHERE query_kind IN ('Insert', 'AsyncInsertFlush') AND elapsed > {seconds:Float64}
"""


class InsertsGoOn(Exception):
    """An insert that began before the view was made has not ended; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Derived:
    """A table filled by a materialized view over `session_events`. `columns` are the view's, in the order of
    `select`, which names its tables with their database."""

    table: str
    view: str
    select: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """The sessions from (tenant, session) `first` on and before `end` (None: no bound), in the order of the table;
    `rows` of them as it was planned."""

    first: tuple[str, str] | None
    end: tuple[str, str] | None
    rows: int


def derived_tables(server: Client) -> list[Derived]:
    """All tables of the client's database that are filled from the events, by name."""
    found = server.query(_VIEWS, parameters={"source": SOURCE}).result_rows
    return [Derived(target, view, select, _columns(server, view)) for view, target, select in found]


def pieces(server: Client, rows: int = PIECE_ROWS) -> list[Piece]:
    """What there is to copy. The first piece has no beginning and the last no end."""
    found = server.query(_PIECES, parameters={"rows": rows}).result_rows
    places: list[tuple[str, str] | None] = [None, *(tuple(place) for place, _ in found[1:]), None]
    counts = [int(count) for _, count in found]
    return [Piece(*bounds, count) for bounds, count in zip(pairwise(places), counts, strict=False)]


def copy(server: Client, derived: Derived, into: str, piece: Piece) -> None:
    """Bring one piece into the table `into`. Raises what clickhouse-connect raises; may be done again."""
    columns = ", ".join(f"`{name}`" for name in derived.columns)
    source = f"{server.database}.{SOURCE}"
    only = f"(SELECT * FROM {source} WHERE {' AND '.join(['1', *_conditions(piece)])}) AS {SOURCE}"
    select = derived.select.replace(f"FROM {source}", f"FROM {only}")
    server.command(
        f"INSERT INTO `{into}` ({columns}) {select}",
        parameters=_bounds(piece),
        settings=_SETTINGS,
    )


def await_older_inserts(server: Client, timeout: float = INSERTS_TIMEOUT_S) -> None:
    """Return once every insert has ended that was running at the call: none of them knows of a newer view.

    Raises InsertsGoOn after `timeout` seconds.
    """
    began = time.monotonic()
    while True:
        waited = time.monotonic() - began
        running = server.query(_OLDER_INSERTS, parameters={"seconds": waited}).result_rows[0][0]
        if not running:
            return
        if waited > timeout:
            raise InsertsGoOn(
                f"{running} insert(s) have been running for more than {timeout:g} s: look at "
                "system.processes, end them or wait, and start again"
            )
        time.sleep(_LOOK_AGAIN_S)


def fill(server: Client, view: str, say: Callable[[str], None]) -> None:
    """Bring what came before the view `view` was made into its table; `say` gets the progress."""
    derived = next((one for one in derived_tables(server) if one.view == view), None)
    if derived is None:
        return
    await_older_inserts(server)
    planned = pieces(server)
    for done in copied(server, derived, derived.table, planned):
        say(f"fill {derived.table}: {done:,} of {sum(one.rows for one in planned):,} events")


def copied(server: Client, derived: Derived, into: str, planned: Sequence[Piece]) -> Iterator[int]:
    """Copy piece after piece; yields after each how many events are done."""
    done = 0
    for piece in planned:
        copy(server, derived, into, piece)
        done += piece.rows
        yield done


def _columns(server: Client, view: str) -> tuple[str, ...]:
    found = server.query(_COLUMNS, parameters={"view": view}).result_rows
    return tuple(str(name) for (name,) in found)


def _conditions(piece: Piece) -> Iterator[str]:
    """As the primary key can use them: it can't compare tuples."""
    if piece.first:
        yield (
            "(tenant_id > {tenant_1:String}"
            " OR tenant_id = {tenant_1:String} AND session_id >= {session_1:String})"
        )
    if piece.end:
        yield (
            "(tenant_id < {tenant_2:String}"
            " OR tenant_id = {tenant_2:String} AND session_id < {session_2:String})"
        )


def _bounds(piece: Piece) -> dict[str, str]:
    bounds = {}
    for number, place in ((1, piece.first), (2, piece.end)):
        if place:
            bounds[f"tenant_{number}"], bounds[f"session_{number}"] = place
    return bounds
