"""Which headers did a request bring? Read into a map once; of a repeated header the last one counts."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import Scope

HEADERS = "turnstile.headers"


def headers_of(scope: Scope) -> Mapping[bytes, bytes]:
    """The request's headers by lower-case name."""
    found: dict[bytes, bytes] | None = scope.get(HEADERS)
    if found is None:
        found = scope[HEADERS] = dict(scope["headers"])
    return found
