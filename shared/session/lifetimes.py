"""How long a session may rest, and how long its provider session may grow: numbers by tenant and mode.

They are written `900, acme=300, acme/background=60, */background=30`. A part is a number, which holds for all, or
`tenant=number`, `tenant/mode=number`, `*/mode=number`; a mode is that of a session. Of the parts that fit, the one
that names the tenant holds, and among those the one that names the mode. 0 stands for never.
"""

from __future__ import annotations

import math
import re
from typing import get_args

from msgspec import Struct

from shared.session.inputs import Mode

ANY = "*"
MODES = get_args(Mode)
_TENANT = re.compile(r"\*|[A-Za-z0-9._:-]{1,128}")


class Part(Struct, frozen=True):
    """`tenant` and `mode` may be `*`."""

    tenant: str
    mode: str
    value: float


class ByTenant(Struct, frozen=True):
    """The parts, the one that holds first. What none of them speaks of is 0."""

    parts: tuple[Part, ...] = ()

    def of(self, tenant: str, mode: str) -> float:
        """The number for a session of this tenant and mode."""
        for part in self.parts:
            if part.tenant in (ANY, tenant) and part.mode in (ANY, mode):
                return part.value
        return 0.0


class Lifetimes(Struct, frozen=True, kw_only=True):
    """Seconds and counts, 0 for never. Without a turn for so long a session is `idle`, and its provider session is
    archived (`archive`). One is exchanged at rest once it had so many `turns`, spent so many
    `tokens` (cached ones too) or had its context compacted so often (`compactions`)."""

    idle: ByTenant = ByTenant()
    archive: ByTenant = ByTenant()
    turns: ByTenant = ByTenant()
    tokens: ByTenant = ByTenant()
    compactions: ByTenant = ByTenant()


def read(text: str, *, most: float) -> ByTenant:
    """The numbers in `text`, each from 0 to `most`. Raises ValueError that names the faulty part."""
    parts: dict[tuple[str, str], Part] = {}
    for place, words in enumerate(text.split(","), 1):
        if not words.strip():
            continue
        try:
            part = _part(words.strip(), most)
            if (part.tenant, part.mode) in parts:
                raise ValueError("this is said twice")
        except ValueError as error:
            raise ValueError(f"part {place}, {words.strip()!r}: {error}") from None
        parts[part.tenant, part.mode] = part
    return ByTenant(tuple(sorted(parts.values(), key=_weight, reverse=True)))


def _part(words: str, most: float) -> Part:
    scope, equals, number = (piece.strip() for piece in words.rpartition("="))
    if not equals:
        return Part(ANY, ANY, _number(number, most))
    tenant, slash, mode = scope.partition("/")
    if not _TENANT.fullmatch(tenant):
        raise ValueError(f"{tenant!r} is no tenant; * is any")
    if slash and mode not in MODES:
        raise ValueError(f"{mode!r} is no mode; there are {' and '.join(MODES)}")
    return Part(tenant, mode if slash else ANY, _number(number, most))


def _number(words: str, most: float) -> float:
    try:
        number = float(words)
    except ValueError:
        raise ValueError(
            f"{words!r} is no number; write 900, acme=300 or acme/background=60"
        ) from None
    if not (math.isfinite(number) and 0 <= number <= most):
        raise ValueError(f"{words} is out of range: 0 to {most:g}")
    return number


def _weight(part: Part) -> tuple[bool, bool]:
    return part.tenant != ANY, part.mode != ANY
