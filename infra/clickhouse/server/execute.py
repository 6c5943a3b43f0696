"""One statement on one handle: settings, parameters, then insert, read or command.

Everything here blocks and runs in a worker thread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from infra.clickhouse.server.body import after, head
from infra.clickhouse.server.engine import Engine, Handle, Inserter, Result, Stream
from infra.clickhouse.server.errors import (
    READONLY,
    SYNTAX_ERROR,
    ClickHouseError,
    engine_errors,
    from_engine,
    refuse,
)
from infra.clickhouse.server.guard import check_bound, check_default, check_locked, check_read_only
from infra.clickhouse.server.native import revised
from infra.clickhouse.server.request import Asked
from infra.clickhouse.server.rows import bind
from infra.clickhouse.server.sessions import Lease, apply_settings, set_all
from infra.clickhouse.server.statement import (
    MAX_STATEMENT,
    Insert,
    find_insert,
    first_word,
    named_format,
)
from infra.clickhouse.server.users import User

DEFAULT_FORMAT = "TabSeparated"
# Formats whose blocks, one after the other, are the whole result. Others have a head or a foot,
# which the engine repeats for each block of a stream: those are made in one piece.
STREAMED = frozenset(
    {"native", "tabseparated", "tsv", "tabseparatedraw", "tsvraw", "csv", "rowbinary"}
    | {"jsoneachrow", "jsonlines", "ndjson", "jsoncompacteachrow", "jsonstringseachrow", "rawblob"}
)
# A result whose first block has so many bytes is sent as it comes.
LONG = 1024 * 1024
_READS = ("SELECT", "WITH", "FROM")


@dataclass(slots=True)
class Outcome:
    """What came back. `format` is None for a statement without a result.

    With `stream`, `blocks` are only the first ones and the rest is to be taken by `next_block`.
    `revision`: of the native protocol, for a result in the format Native. `close` ends the stream
    and gives the handle back; it may be called twice.
    """

    format: str | None = None
    blocks: list[bytes] = field(default_factory=list)
    stream: Stream | None = None
    summary: dict[str, str] = field(default_factory=dict)
    on_close: Callable[[], None] | None = None
    revision: int = 0

    def __post_init__(self) -> None:
        self.blocks = [revised(block, self.revision) for block in self.blocks]

    def next_block(self) -> bytes | None:
        """The next block of a result; None after the last. Raises ClickHouseError."""
        with engine_errors():
            for result in self.stream or ():
                if block := result.bytes():
                    return revised(block, self.revision)
        return None

    @property
    def closed(self) -> bool:
        return self.on_close is None

    def close(self) -> None:
        on_close, self.on_close = self.on_close, None
        if self.stream is not None:
            self.stream.close()
        if on_close is not None:
            on_close()


def execute(engine: Engine, lease: Lease, user: User, asked: Asked, pieces: list[bytes]) -> Outcome:
    """Run what the client asked for. Raises ClickHouseError; the lease stays the caller's."""
    started = time.perf_counter_ns()
    text = asked.query or head(pieces, MAX_STATEMENT)
    word = first_word(text)
    insert = find_insert(text) if word == "INSERT" else None
    if insert is None:
        text = asked.query + b"".join(pieces)
    reads_only, statements = (False, 1) if insert else engine.classify(text)
    _check(engine, user, asked, insert.statement if insert else text, reads_only, statements)
    with engine_errors():
        _prepare(lease, user, asked, word)
        if insert is not None:
            return _insert(lease.handle, asked, insert, _data(asked, insert, pieces), started)
        return _query(lease.handle, asked, text, word, reads_only, started)


def _check(
    engine: Engine,
    user: User,
    asked: Asked,
    statement: bytes,
    reads_only: bool,
    statements: int,
) -> None:
    """Raise ClickHouseError unless this user may run this statement by this method."""
    if user.readonly:
        check_read_only(
            statement,
            reads_only=reads_only,
            statements=statements,
            table_functions=engine.table_functions,
            params=asked.params,
        )
        if user.tenants:
            check_bound(statement)
        if user.readonly == 2:
            check_default(statement, asked.database or user.database, asked.params)
            check_locked(statement, {*user.settings, "readonly"})
            check_locked(" ".join(asked.settings).encode(), {*user.settings, "readonly"})
    elif statements > 1:
        raise refuse(SYNTAX_ERROR, "Syntax error: Multi-statements are not allowed")
    elif asked.method != "POST" and statements and not reads_only:
        _check_get(statement)


def _check_get(statement: bytes) -> None:
    """GET must change nothing, as in ClickHouse."""
    if first_word(statement) not in ("SET", "USE"):
        raise refuse(
            READONLY,
            "Cannot execute query in readonly mode. For queries over HTTP, method GET "
            "implies readonly. You should use method POST for modifying queries",
        )


def _prepare(lease: Lease, user: User, asked: Asked, word: str) -> None:
    handle = lease.handle
    if lease.fresh or asked.database:
        handle.query(f"USE {_name(asked.database or user.database)}", "Null")
    deadline = _deadline(user, asked)
    if lease.fresh:
        set_all(handle, {**user.settings, **deadline})
        if user.tenants:
            bind(handle, user.tenants)
        if user.readonly:
            set_all(handle, {"readonly": str(user.readonly)})
        lease.fresh = False
    # A SET of the client's own must land on the session, not under what is put back later.
    apply_settings(lease, {} if word == "SET" else asked.settings)


def _deadline(user: User, asked: Asked) -> dict[str, str]:
    """Take the time limit out of a read-only user's request; it counts if it is below the user's own.

    Clients send the deadline of their caller so. Other settings are refused.
    """
    if user.readonly != 1 or "max_execution_time" not in asked.settings:
        return {}
    given = asked.settings.pop("max_execution_time")
    limit = float(user.settings.get("max_execution_time", 0)) or math.inf
    shorter = given.replace(".", "", 1).isdecimal() and 0 < float(given) < limit
    return {"max_execution_time": given} if shorter else {}


def _name(database: str) -> str:
    return "`" + database.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _data(asked: Asked, insert: Insert, pieces: list[bytes]) -> list[bytes]:
    if not asked.query:
        return after(pieces, insert.data_at)
    inline = asked.query[insert.data_at :]
    return [inline, *pieces] if inline else pieces


def _insert(
    handle: Handle, asked: Asked, insert: Insert, data: list[bytes], started: int
) -> Outcome:
    set_all(handle, {f"param_{name}": value for name, value in asked.params.items()})
    inserter = handle.send_insert(insert.statement, insert.format)
    try:
        _feed(inserter, data)
        done = inserter.finish()
    finally:
        inserter.cancel()  # does nothing after finish
    return Outcome(
        summary={
            "read_rows": str(done.rows_written),
            "read_bytes": str(done.bytes_written),
            "written_rows": str(done.rows_written),
            "written_bytes": str(done.bytes_written),
            "elapsed_ns": str(time.perf_counter_ns() - started),
        }
    )


def _feed(inserter: Inserter, data: list[bytes]) -> None:
    for piece in data:
        inserter.append(piece)


def _query(
    handle: Handle, asked: Asked, text: bytes, word: str, reads_only: bool, started: int
) -> Outcome:
    said = named_format(text) or asked.format or DEFAULT_FORMAT
    if word in _READS and said.lower() in STREAMED and not asked.wait_end_of_query:
        try:
            return _stream(handle, asked, text, said, started)
        except ClickHouseError as error:
            if "Streaming query is not supported" not in error.text:
                raise
    result = handle.query(text, said, asked.params)
    block = result.bytes()
    answers = bool(block) or reads_only
    return Outcome(
        said if answers else None,
        [block] if block else [],
        summary=_summary(result, started),
        revision=_revision(asked, said),
    )


def _revision(asked: Asked, said: str) -> int:
    return asked.revision if said.lower() == "native" else 0


def _stream(handle: Handle, asked: Asked, text: bytes, said: str, started: int) -> Outcome:
    """The first blocks show whether there is more: a short result needs no streaming."""
    with engine_errors():
        stream = handle.send_query(text, said, asked.params)
    try:
        blocks, rows, whole = _first_blocks(stream)
        outcome = Outcome(said, blocks, None if whole else stream, revision=_revision(asked, said))
    except Exception as error:
        stream.close()
        raise error if isinstance(error, ClickHouseError) else from_engine(str(error)) from None
    if whole:
        outcome.summary = {
            "result_rows": str(rows),
            "result_bytes": str(sum(len(block) for block in outcome.blocks)),
            "elapsed_ns": str(time.perf_counter_ns() - started),
        }
    return outcome


def _first_blocks(stream: Stream) -> tuple[list[bytes], int, bool]:
    """At most two blocks, how many rows they have, and whether they are all. Nobody waits for a second one with a
    first of LONG bytes in hand."""
    blocks: list[bytes] = []
    rows = 0
    for result in stream:
        rows += result.rows_read()
        blocks.append(result.bytes())
        if len(blocks) == 2 or len(blocks[0]) >= LONG:
            return blocks, rows, False
    return blocks, rows, True


def _summary(result: Result, started: int) -> dict[str, str]:
    return {
        "read_rows": str(result.storage_rows_read()),
        "read_bytes": str(result.storage_bytes_read()),
        "written_rows": str(result.rows_written()),
        "written_bytes": str(result.bytes_written()),
        "result_rows": str(result.rows_read()),
        "result_bytes": str(result.bytes_read()),
        "elapsed_ns": str(time.perf_counter_ns() - started),
    }
