"""Decodes and checks query strings.

Arrays come as `types[]=a&types[]=b` (the SDK) or `types=a` (by hand); ranges as `created_at[gt]=`.
A name that is not listed is refused, except `beta=true`, which older clients send.
"""

from __future__ import annotations

from collections.abc import Collection

from starlette.requests import Request

from infra.simulator import stamps
from infra.simulator.errors import bad

RANGES = ("created_at[gt]", "created_at[gte]", "created_at[lt]", "created_at[lte]")


class Query:
    """The checked query of one request."""

    def __init__(self, request: Request, *names: str) -> None:
        """Raises ApiError 400 for a parameter that is not in `names`."""
        self._params = request.query_params
        known = {*names, *(f"{name}[]" for name in names), "beta"}
        for name in self._params:
            if name not in known:
                raise bad(f"{name}: unknown query parameter")

    def text(self, name: str) -> str | None:
        return self._params.get(name)

    def choice(self, name: str, allowed: Collection[str], default: str) -> str:
        value = self._params.get(name, default)
        if value not in allowed:
            raise bad(f"{name}: must be one of {', '.join(sorted(allowed))}")
        return value

    def many(self, name: str, allowed: Collection[str], limit: int = 100) -> frozenset[str]:
        """The values of an array parameter; empty means no filter."""
        values = self._params.getlist(f"{name}[]") + self._params.getlist(name)
        if len(values) > limit:
            raise bad(f"{name}: at most {limit} values")
        for value in values:
            if value not in allowed:
                raise bad(f"{name}: unknown value {value!r}")
        return frozenset(values)

    def limit(self, default: int, most: int) -> int:
        number = self.number("limit", default)
        if not 1 <= number <= most:
            raise bad(f"limit: must be between 1 and {most}")
        return number

    def number(self, name: str, default: int = 0) -> int:
        value = self._params.get(name)
        if value is None:
            return default
        if not (value.isascii() and value.isdigit() and len(value) < 12):
            raise bad(f"{name}: must be a whole number")
        return int(value)

    def flag(self, name: str) -> bool:
        return self.choice(name, ("true", "false"), "false") == "true"

    def span(self) -> tuple[int | None, int | None]:
        """The `created_at` bounds in microseconds: first included, first excluded; None is open."""
        low = [t for n, s in (("gt", 1), ("gte", 0)) if (t := self._time(n, s)) is not None]
        high = [t for n, s in (("lt", 0), ("lte", 1)) if (t := self._time(n, s)) is not None]
        return max(low, default=None), min(high, default=None)

    def _time(self, bound: str, shift: int) -> int | None:
        text = self._params.get(f"created_at[{bound}]")
        if text is None:
            return None
        try:
            return stamps.read(text) + shift
        except ValueError as error:
            raise bad(f"created_at[{bound}]: {error}") from None
