"""Export files that are whole under their names, and the list of them.

A file gets its name when it is whole; until then it is `.NAME.partial`, which the next run writes anew.
`_export.json` says what was asked for and what each file holds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from services.operator.exports.pieces import Piece, Wanted
from services.operator.failures import Impossible

LIST = "_export.json"  # readers of a folder of Parquet files pass over names with an underscore
_MAGIC = b"PAR1"  # first and last in every Parquet file


class Entry(Struct):
    """One file that is whole."""

    rows: int
    bytes: int
    written_at: datetime


class Listed(Struct):
    wanted: dict[str, str]
    files: dict[str, Entry] = {}


@dataclass(slots=True)
class Folder:
    """A folder of one export."""

    path: Path
    listed: Listed = field(default_factory=lambda: Listed({}))

    def begin(self, wanted: Wanted, *, force: bool, resume: bool) -> None:
        """Make the folder and read its list. Raises Impossible when something there would be overwritten."""
        asked = wanted.as_json()
        self.path.mkdir(parents=True, exist_ok=True)
        there = sorted(file.name for file in self.path.glob(f"{wanted.table}*.parquet"))
        listed = self._read()
        if there and resume and (listed is None or listed.wanted != asked):
            before = listed.wanted if listed else "unknown: its _export.json is missing"
            raise Impossible(
                f"{self.path} holds another export ({before}): give another folder, or --force"
            )
        if there and not force and not resume:
            raise Impossible(
                f"{self.path / there[0]} exists: --resume keeps what is whole there, --force writes it anew"
            )
        self.listed = listed if resume and listed else Listed(asked)
        if force:
            for name in there:
                (self.path / name).unlink()

    def has(self, piece: Piece) -> bool:
        """Whether the file is there, was written after its time was over, and has the rows that were counted."""
        entry = self.listed.files.get(piece.name)
        if entry is None or not (self.path / piece.name).exists():
            return False
        return piece.closed(entry.written_at) and entry.rows == piece.rows

    def write(
        self, piece: Piece, chunks: Iterable[bytes], now: datetime, told: Callable[[int], None]
    ) -> Entry:
        """Put the chunks into the piece's file; `told` is called with the bytes so far after each.

        Raises Impossible for what is no whole Parquet file. A file of that name stays until the new one is whole.
        """
        size = whole_file(self.path / piece.name, chunks, told)
        entry = Entry(piece.rows, size, now)
        self.listed.files[piece.name] = entry
        self._save()
        return entry

    def _read(self) -> Listed | None:
        try:
            return msgspec.json.decode((self.path / LIST).read_bytes(), type=Listed)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise Impossible(f"{self.path / LIST} is not what an export wrote: {error}") from None

    def _save(self) -> None:
        text = msgspec.json.format(msgspec.json.encode(self.listed), indent=2)
        partial = self.path / f".{LIST}.partial"
        partial.write_bytes(text + b"\n")
        partial.replace(self.path / LIST)


def whole_file(path: Path, chunks: Iterable[bytes], told: Callable[[int], None]) -> int:
    """Write a Parquet file, which gets its name when it is whole; returns its bytes. `told` is called with the
    bytes so far after each chunk. Raises Impossible for what is no whole Parquet file: what had that name stays."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)
            told(file.tell())
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
    if not _whole(partial):
        raise Impossible(f"{path.name}: ClickHouse ended before the file did; try again")
    partial.replace(path)
    return size


def _whole(path: Path) -> bool:
    with path.open("rb") as file:
        first = file.read(4)
        file.seek(-min(4, path.stat().st_size), os.SEEK_END)
        return first == file.read(4) == _MAGIC
