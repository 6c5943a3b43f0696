"""Bodies: limits, encodings with several frames, pieces that are not joined."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import cramjam
import pytest
import zstandard

from infra.clickhouse.server.body import ClientGone, after, decode, head, read_body
from infra.clickhouse.server.errors import ClickHouseError

pytestmark = pytest.mark.unit

PARTS = (b"a" * 5000, b"b" * 5000, b"c")


def pack_lz4(plain: bytes) -> bytes:
    return bytes(cramjam.lz4.compress(plain))


def receiving(*messages: dict[str, Any]) -> Callable[[], Awaitable[Any]]:
    queue = list(messages)

    async def receive() -> Any:
        return queue.pop(0)

    return receive


def sent(body: bytes, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("lz4", pack_lz4),
        ("zstd", zstandard.ZstdCompressor().compress),
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
    ],
)
@pytest.mark.parametrize("cut", [1, 7, 64, 100_000])
def test_all_frames_of_a_body_are_read(
    encoding: str, pack: Callable[[bytes], bytes], cut: int
) -> None:
    packed = b"".join(pack(part) for part in PARTS)
    pieces = [packed[at : at + cut] for at in range(0, len(packed), cut)]
    assert b"".join(decode(pieces, encoding, limit=20_000)) == b"".join(PARTS)


@pytest.mark.parametrize("encoding", ["lz4", "gzip", "zstd"])
def test_a_cut_or_broken_frame_is_an_error(encoding: str) -> None:
    packs: dict[str, Callable[[bytes], bytes]] = {
        "lz4": pack_lz4,
        "gzip": gzip.compress,
        "zstd": zstandard.ZstdCompressor().compress,
    }
    with pytest.raises(ClickHouseError, match="Content-Encoding"):
        decode([packs[encoding](PARTS[0])[:-3]], encoding, limit=20_000)
    with pytest.raises(ClickHouseError, match="Content-Encoding"):
        decode([b"not compressed at all"], encoding, limit=20_000)


def test_the_limit_counts_what_a_body_unfolds_to() -> None:
    with pytest.raises(ClickHouseError) as refused:
        decode([gzip.compress(b"x" * 1_000_000)], "gzip", limit=1000)
    assert refused.value.status == 413


def test_an_unknown_encoding_says_what_is_known() -> None:
    with pytest.raises(ClickHouseError, match="deflate, gzip, lz4, zstd"):
        decode([b""], "br", limit=1)


def test_pieces_after_an_offset_are_cut_there() -> None:
    pieces = [b"abc", b"def", b"g"]
    assert head(pieces, 4) == b"abcdef"
    assert head(pieces, 2) == b"ab"
    assert after(pieces, 0) == pieces
    assert after(pieces, 4) == [b"ef", b"g"]
    assert after(pieces, 7) == []


async def test_a_body_is_read_to_its_end() -> None:
    receive = receiving(sent(b"ab", True), sent(b"", True), sent(b"c", False))
    assert await read_body(receive, limit=3, idle_seconds=1) == [b"ab", b"c"]


async def test_a_body_beyond_the_limit_is_refused() -> None:
    with pytest.raises(ClickHouseError) as refused:
        await read_body(receiving(sent(b"abcd", False)), limit=3, idle_seconds=1)
    assert refused.value.status == 413


async def test_a_client_that_left_is_reported_as_gone() -> None:
    with pytest.raises(ClientGone):
        await read_body(receiving({"type": "http.disconnect"}), limit=3, idle_seconds=1)


async def test_a_client_that_sends_nothing_is_a_408() -> None:
    async def never() -> Any:
        raise TimeoutError

    with pytest.raises(ClickHouseError) as refused:
        await read_body(never, limit=3, idle_seconds=1)
    assert refused.value.status == 408
