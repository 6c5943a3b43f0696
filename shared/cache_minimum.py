"""How long a prompt must be for the provider to cache it: the rows of `cache_minimums.toml`, and what is missing.

Only `load` reads a file; all else is pure.
"""

from __future__ import annotations

import tomllib
from datetime import date
from importlib.resources import files
from typing import Any

from msgspec import Struct

from shared.session.prices import names_model

FIELDS = {"model", "tokens", "since", "source"}
UNKNOWN = "unknown"
CHARACTERS_A_TOKEN = 4  # the provider's rule of thumb for English text; other languages need fewer


class BadMinimums(ValueError):
    """Rows that cannot be used; the message names the row and the field."""


class Minimum(Struct, frozen=True, kw_only=True):
    """What one model needs from a day (`YYYY-MM-DD`) on; `tokens` None: nobody says."""

    model: str
    tokens: int | None
    since: str
    source: str


class Counted(Struct, frozen=True, kw_only=True):
    """The tokens of a prompt. `estimate`: by its length, not by the provider."""

    tokens: int
    estimate: bool


class Minimums(Struct, frozen=True):
    """Rows of any models, in any order."""

    rows: tuple[Minimum, ...] = ()

    def find(self, model: str, day: str) -> Minimum | None:
        """The row that holds on `day`, None where there is none. A day before all rows has the first."""
        of_model = sorted(
            (row for row in self.rows if names_model(row.model, model)), key=lambda row: row.since
        )
        known = [row for row in of_model if row.since <= day]
        return known[-1] if known else next(iter(of_model), None)

    def shortfall(self, model: str, tokens: int, day: str) -> int | None:
        """How many tokens a prompt of so many misses to be cached, 0: none; None: the minimum is unknown."""
        row = self.find(model, day)
        if row is None or row.tokens is None:
            return None
        return max(0, row.tokens - tokens)

    def warning(self, model: str, prompt: Counted, day: str) -> str | None:
        """The sentence for whoever wrote a system prompt that is too short; None for any other."""
        missing = self.shortfall(model, prompt.tokens, day)
        if not missing:
            return None
        about = "about " if prompt.estimate else ""
        return (
            f"the system prompt has {about}{prompt.tokens:,} tokens, {about}{missing:,} fewer than {model} needs "
            f"to cache a prompt ({prompt.tokens + missing:,}): what stands before the conversation is read at the "
            "full price, unless the agent's tools make up for it"
        )


def estimated(text: str) -> Counted:
    """A prompt's tokens by its length alone."""
    return Counted(tokens=-(-len(text) // CHARACTERS_A_TOKEN), estimate=True)


def load() -> Minimums:
    """The shipped rows. Raises BadMinimums."""
    return read(files("shared").joinpath("cache_minimums.toml").read_text(encoding="utf-8"))


def read(text: str) -> Minimums:
    """The rows in a file's text. Raises BadMinimums, a ValueError."""
    try:
        listed = tomllib.loads(text).get("minimum", [])
    except tomllib.TOMLDecodeError as error:
        raise BadMinimums(str(error)) from error
    rows = tuple(_row(number, found) for number, found in enumerate(listed, 1))
    if len({(row.model, row.since) for row in rows}) < len(rows):
        raise BadMinimums("two rows for one model and day")
    return Minimums(rows)


def _row(number: int, found: dict[str, Any]) -> Minimum:
    where = f"minimum {number} ({found.get('model', '')})"
    if wrong := sorted(found.keys() ^ FIELDS):
        raise BadMinimums(f"{where}: missing or no such field: {', '.join(wrong)}")
    tokens = found["tokens"]
    if tokens != UNKNOWN and (type(tokens) is not int or tokens < 1):
        raise BadMinimums(f'{where}: tokens: a number above 0 or "{UNKNOWN}" is needed')
    if type(found["since"]) is not date:
        raise BadMinimums(f"{where}: since: a day such as 2026-11-30 is needed")
    return Minimum(
        model=str(found["model"]),
        tokens=None if tokens == UNKNOWN else tokens,
        since=found["since"].isoformat(),
        source=str(found["source"]),
    )
