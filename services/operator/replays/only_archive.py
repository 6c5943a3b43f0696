"""The guard of replays: any connection but that to the archive is refused before it is made.

The import contracts keep the provider's client out of these commands. This holds for what imports can't show.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from services.operator.failures import Impossible

_ASKED = ("socket.connect", "socket.sendto", "socket.sendmsg")
# None: not replaying. An audit hook stays for the life of the process, so it is added once.
_allowed: set[tuple[str, int]] | None = None
_watching = False


@contextmanager
def speaking_to_the_archive_only(url: str) -> Iterator[None]:
    """Inside, this process can connect to the host and port of `url` only, in all its threads."""
    global _allowed, _watching
    parts = urlsplit(url)
    port = parts.port or (8443 if parts.scheme == "https" else 8123)
    found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    if not _watching:
        sys.addaudithook(_refuse_others)
        _watching = True
    before, _allowed = _allowed, {(str(place[4][0]), port) for place in found}
    try:
        yield
    finally:
        _allowed = before


def _refuse_others(event: str, arguments: tuple[Any, ...]) -> None:
    if _allowed is None or event not in _ASKED:
        return
    place = arguments[1]
    if not isinstance(place, tuple) or tuple(place[:2]) not in _allowed:
        raise Impossible(f"a replay speaks to the archive only, not to {place}")
