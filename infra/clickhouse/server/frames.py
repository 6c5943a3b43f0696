"""ClickHouse's own compression of answers (`compress=1`): frames of a checksum, a head and data.

16 bytes   CityHash128 (of version 1.0.2) of the rest, the upper half first
 1 byte    method: 0x82 LZ4, 0x90 ZSTD, 0x02 none
 4 bytes   size of the frame without its checksum
 4 bytes   size of the data once decompressed
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import cramjam
import zstandard
from clickhouse_cityhash.cityhash import CityHash128

_HEAD = struct.Struct("<BII")
_CHECKSUM = struct.Struct("<QQ")
# The engine's own measure.
_FRAME_BYTES = 1 << 20


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(data)


def _lz4(data: bytes) -> bytes:
    return bytes(cramjam.lz4.compress_block(data, store_size=False))


_METHODS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "lz4": (0x82, _lz4),
    "zstd": (0x90, _zstd),
    "none": (0x02, bytes),
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


def _checksum(data: bytes) -> bytes:
    value = CityHash128(data)
    return _CHECKSUM.pack(value >> 64, value & 0xFFFFFFFFFFFFFFFF)
