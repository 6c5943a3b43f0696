"""The bytes a client sent: read within the limit, decompressed, without joining what need not be.

Bodies stay lists of pieces as they came from the socket; the engine takes them one by one, so a
large insert is not copied in between.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from itertools import chain
from typing import Any, Protocol

import lz4.frame
import zstandard

from infra.clickhouse.server.errors import INCORRECT_DATA, NOT_IMPLEMENTED, refuse

Receive = Callable[[], Awaitable[Any]]
_STEP = 1 << 16


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


async def read_body(receive: Receive, *, limit: int, idle_seconds: float) -> list[bytes]:
    """All of a request's body, in pieces.

    Raises ClickHouseError with status 413 beyond `limit` bytes and 408 when no byte came for
    `idle_seconds`; ClientGone when the connection closed.
    """
    pieces: list[bytes] = []
    size = 0
    while True:
        try:
            message = await asyncio.wait_for(receive(), idle_seconds)
        except TimeoutError:
            raise refuse(
                INCORRECT_DATA, f"no body byte within {idle_seconds:g} s", status=408
            ) from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        if piece := message.get("body", b""):
            size += len(piece)
            check_size(size, limit)
            pieces.append(piece)
        if not message.get("more_body", False):
            return pieces


def decode(pieces: list[bytes], encoding: str, *, limit: int) -> list[bytes]:
    """Undo Content-Encoding, at most to `limit` bytes.

    A body may hold several frames one after the other (clickhouse-connect sends one lz4 frame per
    block): all of them are read. Raises ClickHouseError for a broken, cut or unknown encoding.
    """
    if encoding in ("", "identity"):
        return pieces
    frame = _FRAMES.get(encoding)
    if frame is None:
        raise refuse(
            NOT_IMPLEMENTED,
            f"Content-Encoding {encoding} is not supported: use {', '.join(sorted(_FRAMES))}",
        )
    try:
        return _decode_frames(pieces, frame, limit)
    except (RuntimeError, zlib.error, zstandard.ZstdError, EOFError) as error:
        raise refuse(INCORRECT_DATA, f"Content-Encoding {encoding}: {error}") from None


def check_size(size: int, limit: int) -> None:
    """Raise ClickHouseError with status 413 when a body of `size` bytes is beyond the limit."""
    if size > limit:
        raise refuse(
            INCORRECT_DATA,
            f"the body is larger than {limit} bytes: send smaller inserts (--max-body-bytes)",
            status=413,
        )


def head(pieces: list[bytes], size: int) -> bytes:
    """The first `size` bytes, or fewer if there are no more."""
    if pieces and len(pieces[0]) >= size:
        return pieces[0][:size]
    taken: list[bytes] = []
    for piece in pieces:
        taken.append(piece)
        size -= len(piece)
        if size <= 0:
            break
    return b"".join(taken)


def after(pieces: list[bytes], offset: int) -> list[bytes]:
    """The pieces from byte `offset` on; only the piece that is cut is copied."""
    for index, piece in enumerate(pieces):
        if offset < len(piece):
            return [piece[offset:] if offset else piece, *pieces[index + 1 :]]
        offset -= len(piece)
    return []


class _Frame(Protocol):
    """A decoder of one frame; `eof` once it ended, `unused_data` what came after it."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> Any: ...
    def decompress(self, data: bytes, /) -> bytes: ...


_FRAMES: dict[str, Callable[[], _Frame]] = {
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "zstd": lambda: zstandard.ZstdDecompressor().decompressobj(),
    "gzip": lambda: zlib.decompressobj(zlib.MAX_WBITS | 16),
    "deflate": lambda: zlib.decompressobj(),
}


def _decode_frames(pieces: list[bytes], new: Callable[[], _Frame], limit: int) -> list[bytes]:
    out: list[bytes] = []
    size = 0
    frame: _Frame | None = None
    for piece in chain.from_iterable(_steps(piece) for piece in pieces):
        rest = piece
        while rest:
            frame = frame or new()
            plain = frame.decompress(rest)
            rest = b""
            if plain:
                size += len(plain)
                check_size(size, limit)
                out.append(plain)
            if frame.eof:
                rest, frame = bytes(frame.unused_data or b""), None
    if frame is not None:
        raise EOFError("the last frame is cut short")
    return out


def _steps(piece: bytes) -> list[bytes]:
    """Small steps, so that a tiny body that unfolds to a huge one is noticed on the way."""
    return [piece[at : at + _STEP] for at in range(0, len(piece), _STEP)]
