"""ClickHouse's own compressed frames."""

from __future__ import annotations

import pytest

from infra.clickhouse.server.frames import FramePacker
from tests.clickhouse_frames import unpack

pytestmark = pytest.mark.unit

DATA = b"".join(b"%d," % number for number in range(400_000))


def packed(data: bytes, method: str = "lz4") -> bytes:
    packer = FramePacker(method)
    packer.compress(data)
    return packer.finish()


def test_a_frame_begins_with_checksum_method_and_sizes() -> None:
    # The block of `SELECT 1`: a checksum, the method, the two sizes.
    framed = packed(b"\x01\x01\x011\x05UInt8\x01", "none")
    assert framed[16:] == b"\x02\x14\x00\x00\x00\x0b\x00\x00\x00\x01\x01\x011\x05UInt8\x01"


@pytest.mark.parametrize("method", ["lz4", "zstd", "none", "LZ4", "unheard of"])
def test_what_is_packed_is_unpacked(method: str) -> None:
    framed = packed(DATA, method)
    assert b"".join(unpack(framed)) == DATA
    assert (len(framed) < len(DATA)) == (method != "none")


def test_a_flush_ends_a_frame_and_nothing_makes_none() -> None:
    packer = FramePacker()
    packer.compress(b"one")
    first = packer.flush()
    packer.compress(b"two")
    assert unpack(first + packer.finish()) == [b"one", b"two"]
    assert packer.finish() == b""
    assert unpack(b"") == []
