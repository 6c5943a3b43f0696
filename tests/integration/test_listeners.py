"""What each of our servers listens on: small pieces of a stream leave at once, under asyncio's own loop too.

A piece that waits for the peer's acknowledgement comes 40 ms late, and is lost when the connection is reset
meanwhile.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from infra.clickhouse.server import serve
from infra.simulator import server as simulator
from infra.simulator.settings import Settings
from services.gateway import main as gateway
from services.gateway.settings import HttpSettings
from services.gateway.siblings import listeners
from shared import health

pytestmark = pytest.mark.integration

LISTENERS: dict[str, Callable[[], socket.socket]] = {
    "simulator": lambda: simulator.bound(Settings(port=0)),
    "gateway": lambda: gateway.listening(HttpSettings(gateway_port=0))[0],
    "sibling": lambda: listeners(["projector"])["projector"],
    "health": lambda: health._listen("127.0.0.1", 0),
    "clickhouse": lambda: serve._listen("127.0.0.1", 0),
}


@pytest.mark.parametrize("name", LISTENERS)
async def test_what_is_written_is_sent_at_once(name: str) -> None:
    taken = asyncio.get_running_loop().create_future()
    listener = LISTENERS[name]()

    async def take(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted = writer.get_extra_info("socket")
        taken.set_result(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    async with await asyncio.start_server(take, sock=listener):
        _, writer = await asyncio.open_connection(*listener.getsockname()[:2])
        assert await asyncio.wait_for(taken, 10)
        writer.close()
