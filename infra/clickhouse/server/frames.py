"""ClickHouse's own compression (`compress=1`, `decompress=1`): frames of a checksum, a head and data.

16 bytes   CityHash128 (of version 1.0.2) of the rest, the upper half first
 1 byte    method: 0x82 LZ4, 0x90 ZSTD, 0x02 none
 4 bytes   size of the frame without its checksum
 4 bytes   size of the data once decompressed
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import cramjam
import zstandard
from clickhouse_cityhash.cityhash import CityHash128

from infra.clickhouse.server.body import check_size
from infra.clickhouse.server.errors import CANNOT_DECOMPRESS, CHECKSUM_DOESNT_MATCH, refuse

_HEAD = struct.Struct("<BII")
_CHECKSUM = struct.Struct("<QQ")
_START = _CHECKSUM.size + _HEAD.size
# The engine's own measure; no frame may hold more than the largest the engine accepts.
_FRAME_BYTES = 1 << 20
_LARGEST = 1 << 30


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(data)


def _lz4(data: bytes) -> bytes:
    return bytes(cramjam.lz4.compress_block(data, store_size=False))


_METHODS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "lz4": (0x82, _lz4),
    "zstd": (0x90, _zstd),
    "none": (0x02, bytes),
}
_UNPACK: dict[int, Callable[[bytes, int], bytes]] = {
    0x82: lambda data, size: bytes(cramjam.lz4.decompress_block(data, output_len=size)),
    0x90: lambda data, size: zstandard.ZstdDecompressor().decompress(data, max_output_size=size),
    0x02: lambda data, size: data,
}


class FramePacker:
    """Compresses what is written in frames; a Packer of infra.clickhouse.server.answer.

    `method` as the setting `network_compression_method` names it; an unknown one is LZ4.
    """

    def __init__(self, method: str = "lz4") -> None:
        self._method, self._press = _METHODS.get(method.lower(), _METHODS["lz4"])
        self._waiting: list[bytes] = []

    def compress(self, data: bytes, /) -> int:
        self._waiting.append(data)
        return len(data)

    def flush(self) -> bytes:
        data = b"".join(self._waiting)
        self._waiting.clear()
        parts = (data[at : at + _FRAME_BYTES] for at in range(0, len(data), _FRAME_BYTES))
        return b"".join(map(self._frame, parts))

    def finish(self) -> bytes:
        return self.flush()

    def _frame(self, data: bytes) -> bytes:
        packed = self._press(data)
        framed = _HEAD.pack(self._method, _HEAD.size + len(packed), len(data)) + packed
        return _checksum(framed) + framed


def unpack(body: bytes, limit: int) -> Iterator[bytes]:
    """The data of each frame, which together may have `limit` bytes.

    Raises ClickHouseError: 271 for what is no frame or is cut short, 40 for a wrong checksum, and
    117 with status 413 beyond the limit.
    """
    at = size = 0
    while at < len(body):
        if len(body) - at < _START:
            raise refuse(CANNOT_DECOMPRESS, "the last compressed frame is cut short")
        method, packed, plain = _HEAD.unpack_from(body, at + _CHECKSUM.size)
        end = at + _CHECKSUM.size + packed
        _check(method, packed, plain, complete=end <= len(body))
        if _checksum(body[at + _CHECKSUM.size : end]) != body[at : at + _CHECKSUM.size]:
            raise refuse(CHECKSUM_DOESNT_MATCH, "Checksum doesn't match: corrupted data")
        size += plain
        check_size(size, limit)
        yield _unpacked(method, body[at + _START : end], plain)
        at = end


def _check(method: int, packed: int, plain: int, *, complete: bool) -> None:
    if method not in _UNPACK or packed < _HEAD.size or max(packed, plain) > _LARGEST:
        raise refuse(CANNOT_DECOMPRESS, f"not a compressed frame (method {method:#04x})")
    if not complete:
        raise refuse(CANNOT_DECOMPRESS, "the last compressed frame is cut short")


def _unpacked(method: int, data: bytes, size: int) -> bytes:
    try:
        plain = _UNPACK[method](data, size)
    except (cramjam.DecompressionError, zstandard.ZstdError) as error:
        raise refuse(CANNOT_DECOMPRESS, f"a compressed frame is broken: {error}") from None
    if len(plain) != size:
        raise refuse(CANNOT_DECOMPRESS, f"a compressed frame has {len(plain)} bytes, not {size}")
    return plain


def _checksum(data: bytes) -> bytes:
    value = CityHash128(data)
    return _CHECKSUM.pack(value >> 64, value & 0xFFFFFFFFFFFFFFFF)
