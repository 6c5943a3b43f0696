"""What servers answer to this gateway: anything."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import Struct

from shared.secret import read_secret

_T = TypeVar("_T")


class OauthAnswer(Struct, frozen=True, kw_only=True):
    """A whole answer; `challenge` is its `WWW-Authenticate`, "" for none."""

    status: int
    challenge: str = ""
    body: bytes = b""

    def read(self, kind: type[_T]) -> _T | None:
        """The body, None where it is no such JSON. Nobody is told why: it may hold secrets."""
        try:
            return msgspec.json.decode(self.body, type=kind, dec_hook=read_secret)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError):
            return None
