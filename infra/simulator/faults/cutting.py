"""Breaks a connection through its transport, which the server puts into the scope."""

from __future__ import annotations

import asyncio
import socket
import struct

from starlette.types import Scope

TRANSPORT = "simulator.transport"  # the key in the scope
LINGER_NONE = struct.pack("ii", 1, 0)  # close with a reset instead of a goodbye


def drop(scope: Scope) -> None:
    """Closes the connection without another byte, with a TCP reset."""
    transport = _transport(scope)
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
    transport.abort()


def hang_up(scope: Scope) -> None:
    """Closes the connection after what was written, without ending the response properly."""
    _transport(scope).close()


def _transport(scope: Scope) -> asyncio.Transport:
    transport = scope.get(TRANSPORT)
    if transport is None:
        raise RuntimeError("faults that break connections need the simulator's own server")
    assert isinstance(transport, asyncio.BaseTransport)
    return transport  # type: ignore[return-value]
