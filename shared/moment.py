"""Times as text: RFC 3339, UTC, six digits. Pure: no clock here (see `shared/clock.py`)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

FIRST_YEAR, LAST_YEAR = 1971, 2261
_UNTIL_OFFSET = len("2026-11-21T10:00:00.123456")
_FORM = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")


def rfc3339(moment: datetime) -> str:
    """`2026-11-21T10:00:00.123456Z`: always UTC and six digits, so that text order is time order."""
    there = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return there.isoformat(timespec="microseconds")[:_UNTIL_OFFSET] + "Z"


# One text is read at several places on its way, and those of one batch are often the same.
@lru_cache(maxsize=4096)
def parse(text: str) -> datetime:
    """The moment an RFC 3339 text names. Raises ValueError when it is none, has no offset, or is no time
    that the archive can keep (its nanoseconds reach from 1970 into 2262)."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no UTC offset")
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ValueError(f"{text!r} is not between {FIRST_YEAR} and {LAST_YEAR}")
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


def normal(text: str) -> str:
    """The same moment in this module's form: the provider writes 0, 3 or 6 digits (seen on the wire)."""
    moment = parse(text)
    return text if _FORM.fullmatch(text) else rfc3339(moment)
