"""A client of leg `whole` hears the end of a turn wherever the stream was cut into pieces, and that it is over."""

import asyncio
from typing import Any, cast

import pytest

from tests.bench.talking import Cut, Listener

pytestmark = pytest.mark.unit
RECORD = b'id: 7\nevent: turn.completed\ndata: {"seq":7}\n\n'
CHUNK = b"%x\r\n%b\r\n" % (len(RECORD), RECORD)
LAST = b"0\r\n\r\n"


def listener(*pieces: bytes) -> Listener:
    """A stream that says these pieces, one read at a time."""

    left = list(pieces)

    class Reader:
        async def read(self, _most: int) -> bytes:
            return left.pop(0) if left else b""

    return Listener(cast(Any, Reader()), cast(Any, None))


@pytest.mark.parametrize("cut", range(1, len(CHUNK)))
def test_an_end_is_heard_once_wherever_it_is_cut(cut: int) -> None:
    heard = listener(CHUNK[:cut], CHUNK[cut:], LAST)
    asyncio.run(heard.until(1))
    with pytest.raises(Cut):
        asyncio.run(heard.until(2))


@pytest.mark.parametrize("last", [(), (LAST,), (CHUNK + LAST,)])
def test_a_stream_that_is_over_is_told(last: tuple[bytes, ...]) -> None:
    with pytest.raises(Cut):
        asyncio.run(listener(b": kept open\n\n", *last).until(2))
