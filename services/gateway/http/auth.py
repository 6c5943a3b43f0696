"""Authentication: the only place that knows API keys; they are kept as digests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal

from starlette.types import Scope as AsgiScope

from services.gateway.http.request import headers_of
from shared.errors import Rejected

Permission = Literal["read", "write"]
ALL = "admin"
CALLER = "turnstile.caller"


@dataclass(frozen=True, slots=True)
class Caller:
    """A tenant, and what its key may do; no scopes at all means everything. `digest` tells the key from others."""

    tenant_id: str
    scopes: frozenset[str]
    digest: bytes = field(default=b"", repr=False)

    def may(self, permission: Permission) -> bool:
        return not self.scopes or permission in self.scopes or ALL in self.scopes


class Keys:
    """The keys of this gateway.

    A key is found by its digest, so the time of a look-up tells nothing about any part of a key.
    """

    def __init__(self, keys: Mapping[str, tuple[str, frozenset[str]]]) -> None:
        self._callers = {
            digest: Caller(tenant, scopes, digest)
            for key, (tenant, scopes) in keys.items()
            for digest in (sha256(key.encode()).digest(),)
        }

    def caller(self, headers: Mapping[bytes, bytes], permission: Permission) -> Caller:
        """Raises Rejected: `unauthorized` without a known key, `forbidden` without the scope."""
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        found = self._callers.get(sha256(token.strip()).digest())
        if found is None or scheme.lower() != b"bearer":
            raise Rejected(
                "unauthorized", "send `Authorization: Bearer <key>` with a key of this gateway"
            )
        if not found.may(permission):
            raise Rejected("forbidden", f"this key lacks the scope `{permission}`")
        return found

    def admit(self, scope: AsgiScope) -> None:
        """Note the caller in the request's scope; reading needs `read`, everything else `write`."""
        permission: Permission = "read" if scope["method"] in ("GET", "HEAD") else "write"
        scope[CALLER] = self.caller(headers_of(scope), permission)


def caller_of(scope: AsgiScope) -> Caller:
    """Who was admitted with this request."""
    caller: Caller = scope[CALLER]
    return caller
