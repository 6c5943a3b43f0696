"""`turnstile export`: the archive, or a part of it, as Parquet files."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from services.operator import addresses
from services.operator.archive import ArchiveReader
from services.operator.exports.file import Folder
from services.operator.exports.pieces import SHAPES, Cut, Piece, Wanted, counting, piece, reading
from services.operator.failures import Impossible, failing_clearly

# A piece may take long before its first byte comes: the embedded engine makes it whole first.
PATIENCE_S = 600
SETTINGS = {
    "output_format_parquet_compression_method": "zstd",
    # What is written at once, and so what a reader must hold at once.
    "output_format_parquet_row_group_size": 100_000,
    "output_format_parquet_row_group_size_bytes": 64 << 20,
    "max_execution_time": PATIENCE_S,
    # Each thread holds row groups of its own.
    "max_threads": 2,
}
_SAY_EVERY_S = 5.0
_DAY = ["%Y-%m-%d"]


def export(
    folder: Annotated[Path, typer.Argument(help="Where the files go; made if absent.")],
    table: Annotated[str, typer.Option(help=f"One of {', '.join(SHAPES)}.")] = "events",
    tenant: Annotated[str, typer.Option(help="Of this tenant only.")] = "",
    session: Annotated[str, typer.Option(help="Of this session only.")] = "",
    since: Annotated[datetime | None, typer.Option(formats=_DAY, help="First day, UTC.")] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=_DAY, help="The day after the last one, UTC.")
    ] = None,
    by: Annotated[
        Cut,
        typer.Option(
            help="What one file holds. A day costs as much reading as its month; none: all in one."
        ),
    ] = Cut.month,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep files that are whole, write the others.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write files that exist anew.")] = False,
) -> None:
    """Write events, or another table, to Parquet files (zstd), one a month or day.

    A file gets its name when it is whole, so that a run which was cut short can go on with --resume; files of
    months that were not over yet are then written anew. _export.json in the folder lists them.
    """
    days = since and since.date(), until and until.date()
    wanted = Wanted(table, tenant, session, *days, by)
    _check(wanted, resume=resume, force=force)
    where = addresses.archive()
    with failing_clearly(f"exporting {table} from {where.shown}", where.secrets):
        into = Folder(folder)
        into.begin(wanted, force=force, resume=resume)
        archive = ArchiveReader(where.url, PATIENCE_S)
        pieces = _pieces(archive, wanted)
        if not pieces:
            raise Impossible("there are no such rows (the recorder may be behind)")
        _write(archive, wanted, pieces, into)


def _check(wanted: Wanted, *, resume: bool, force: bool) -> None:
    shape = SHAPES.get(wanted.table)
    if shape is None:
        raise typer.BadParameter(
            f"no {wanted.table!r}; there are {', '.join(SHAPES)}", param_hint="--table"
        )
    if wanted.tenant and not shape.tenant:
        raise typer.BadParameter(f"{wanted.table} knows no tenants", param_hint="--tenant")
    if wanted.session and not shape.session:
        raise typer.BadParameter(f"{wanted.table} knows no sessions", param_hint="--session")
    if wanted.since and wanted.until and wanted.since >= wanted.until:
        raise typer.BadParameter("must be later than --since", param_hint="--until")
    if resume and force:
        raise typer.BadParameter("either --resume or --force", param_hint="--force")


def _pieces(archive: ArchiveReader, wanted: Wanted) -> list[Piece]:
    statement, parameters = counting(wanted)
    return [piece(wanted, start, rows) for start, rows in archive.query(statement, **parameters)]


def _write(archive: ArchiveReader, wanted: Wanted, pieces: list[Piece], into: Folder) -> None:
    written, kept, size = 0, 0, 0
    for number, one in enumerate(pieces, 1):
        if into.has(one):
            kept += 1
            continue
        statement, parameters = reading(wanted, one)
        chunks = archive.stream(statement, "Parquet", parameters, SETTINGS)
        began, now = time.monotonic(), datetime.now(UTC)
        entry = into.write(one, chunks, now, _progress(f"{number}/{len(pieces)} {one.name}"))
        written += entry.rows
        size += entry.bytes
        seconds = time.monotonic() - began
        typer.echo(
            f"{number}/{len(pieces)} {one.name}: {entry.rows:,} rows, {_megabytes(entry.bytes)}, {seconds:.1f} s"
        )
    same = f", {kept} files kept as they were" if kept else ""
    typer.echo(f"{written:,} rows, {_megabytes(size)} in {into.path}{same}")


def _progress(words: str) -> Callable[[int], None]:
    """Says on stderr how far a long file is."""
    last = time.monotonic()

    def told(so_far: int) -> None:
        nonlocal last
        if time.monotonic() - last > _SAY_EVERY_S:
            last = time.monotonic()
            typer.echo(f"{words}: {_megabytes(so_far)} so far", err=True)

    return told


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
