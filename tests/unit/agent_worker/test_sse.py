"""Records come off the wire the same however the wire cuts them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.agent_worker.ports import ProviderFailure
from services.agent_worker.provider import stream

pytestmark = pytest.mark.unit
WIRE = (
    b': welcome\n\nevent: message\ndata: {"a":1}\n\n'
    b'event: ping\ndata: {}\n\nevent: message\ndata: {"b":\ndata: 2}\n\nevent: message\ndata: {"c"'
)
WANTED = [b'{"a":1}', b'{"b":\n2}']


async def chunks(wire: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(wire), size):
        yield wire[start : start + size]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
@pytest.mark.parametrize("wire", [WIRE, WIRE.replace(b"\n", b"\r\n")], ids=["lf", "crlf"])
async def test_records_are_read_however_the_stream_is_cut(wire: bytes, size: int) -> None:
    assert [record async for record in stream.records(chunks(wire, size))] == WANTED


async def test_twenty_megabytes_in_small_pieces_are_one_record() -> None:
    text = bytes(range(97, 123)) * 800_000
    wire = b'event: message\ndata: "%b"\n\nevent: message\ndata: 1\n\n' % text
    found = [record async for record in stream.records(chunks(wire, 16_384))]
    assert found == [b'"%b"' % text, b"1"]


async def test_a_record_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_RECORD", 100)
    with pytest.raises(ProviderFailure, match="no end"):
        _ = [record async for record in stream.records(chunks(b"data: " + b"x" * 200, 16))]


async def test_an_error_record_ends_the_stream_after_what_came_before() -> None:
    wire = (
        b'event: message\ndata: 1\n\nevent: error\ndata: {"error":{"type":"overloaded_error"}}\n\n'
    )
    records = stream.records(chunks(wire, 1000))
    assert await anext(records) == b"1"
    with pytest.raises(ProviderFailure) as failed:
        await anext(records)
    assert failed.value.reason == "overloaded_error"
