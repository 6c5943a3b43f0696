"""What a client makes of the bytes of an event stream."""

from collections.abc import AsyncIterator

import pytest

from infra.clients.gateway import Received, received

pytestmark = pytest.mark.unit
RAW = (
    'retry: 2000\n\n: hello\n\nid: 1\nevent: a\ndata: {"t": "x\u2028y"}\n\nevent: b\r\ndata: {}\r\n\r\n'
).encode()


async def test_an_event_with_id_is_archived_one_without_is_a_preview_wherever_the_bytes_are_cut() -> (
    None
):
    async def chunks(size: int) -> AsyncIterator[bytes]:
        for at in range(0, len(RAW), size):
            yield RAW[at : at + size]

    for size in (1, 3, len(RAW)):
        first, second = [event async for event in received(chunks(size))]
        assert first == Received(1, "a", '{"t": "x\u2028y"}'.encode())
        assert first.body == {"t": "x\u2028y"}
        assert second == Received(None, "b", b"{}")
