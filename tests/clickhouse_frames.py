"""Reads ClickHouse's own compressed frames as a client does, checksums included."""

from __future__ import annotations

import struct
from collections.abc import Callable

import cramjam
import zstandard
from clickhouse_cityhash.cityhash import CityHash128

_METHODS: dict[int, Callable[[bytes, int], bytes]] = {
    0x82: lambda data, size: bytes(cramjam.lz4.decompress_block(data, output_len=size)),
    0x90: lambda data, size: zstandard.ZstdDecompressor().decompress(data, max_output_size=size),
    0x02: lambda data, size: data,
}


def unpack(body: bytes) -> list[bytes]:
    """The data of each frame."""
    found: list[bytes] = []
    while body:
        upper, lower, method, packed, size = struct.unpack_from("<QQBII", body)
        frame, body = body[16 : 16 + packed], body[16 + packed :]
        assert len(frame) == packed
        assert CityHash128(frame) == upper << 64 | lower
        found.append(_METHODS[method](frame[9:], size))
        assert len(found[-1]) == size
    return found
