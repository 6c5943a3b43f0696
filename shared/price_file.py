"""The file of list prices: the one that is shipped, or another in its place. The only reader of either."""

from __future__ import annotations

import tomllib
from datetime import date
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

from shared.session.prices import NANO, Price, Prices

NEEDED = ("input", "output")
CACHING = ("cache_write_5m", "cache_write_1h", "cache_read")
KNOWN = {"model", "since", "up_to", *NEEDED, *CACHING}


class BadPrices(ValueError):
    """A file of prices that cannot be used; the message names the row and the field."""


def load(path: str = "") -> Prices:
    """The prices in the file at `path`, or in the shipped one without.

    Raises BadPrices, a ValueError, for a file that is not there, is no TOML or has a wrong row.
    """
    source = Path(path) if path else files("shared").joinpath("prices.toml")
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadPrices(f"{source}: {error}") from error
    return read(text)


def read(text: str) -> Prices:
    """The prices in a file's text. Raises as `load` does."""
    try:
        listed = tomllib.loads(text, parse_float=Decimal).get("price", [])
    except tomllib.TOMLDecodeError as error:
        raise BadPrices(str(error)) from error
    if not isinstance(listed, list):
        raise BadPrices("price: rows are written as [[price]]")
    rows = tuple(_row(number, found) for number, found in enumerate(listed, 1))
    ids = [row.id for row in rows]
    if twice := sorted({id for id in ids if ids.count(id) > 1}):
        raise BadPrices(f"two rows for {', '.join(twice)}")
    return Prices(rows)


def _row(number: int, found: dict[str, Any]) -> Price:
    if wrong := sorted(found.keys() - KNOWN):
        raise BadPrices(f"price {number}: no such field: {', '.join(wrong)}")
    model, since, up_to = found.get("model"), found.get("since"), found.get("up_to")
    if not isinstance(model, str) or not model:
        raise BadPrices(f"price {number}: model: a name is needed")
    where = f"price {number} ({model})"
    if since is not None and type(since) is not date:
        raise BadPrices(f"{where}: since: a day such as 2026-11-30 is needed")
    if up_to is not None and (type(up_to) is not int or up_to < 1):
        raise BadPrices(f"{where}: up_to: a number of tokens is needed")
    return Price(
        model=model,
        since=since.isoformat() if since else "",
        up_to=up_to,
        **{name: _nano(where, name, found.get(name)) for name in NEEDED},
        **{name: _nano(where, name, found[name]) for name in CACHING if name in found},
    )


def _nano(where: str, name: str, dollars: Any) -> int:
    """Dollars per million tokens as nano-dollars a token."""
    if type(dollars) not in (int, Decimal) or dollars < 0:
        raise BadPrices(f"{where}: {name}: US dollars per million tokens are needed")
    nano = Decimal(dollars) * NANO
    if nano != int(nano):
        raise BadPrices(f"{where}: {name}: finer than a thousandth of a dollar")
    return int(nano)
