"""Retention rules (`*=365d, acme=90d, acme/agent.thinking=7d, */span.*=30d`), parsed.

A part is `tenant=time` or `tenant/kind=time`: `*` is any tenant, a kind is an event's type or, with `*` at its end,
a beginning of one; a time is days (`90d`), hours (`12h`) or `forever`. Of the rules that fit an event the one with
the most exact kind holds, and among those the one that names the tenant. What none fits is kept for ever.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ANY = "*"
FOREVER = "forever"
LONGEST_HOURS = 24 * 36_500

_TENANT = re.compile(r"\*|[A-Za-z0-9._:-]{1,128}")
_KIND = re.compile(r"\*|[a-z0-9_.]+\*?")
_TIME = re.compile(r"([0-9]{1,6})([dh])")


@dataclass(frozen=True, slots=True)
class Rule:
    """`hours` is None for ever. `tenant` and `kind` may be `*`; a kind may end with it."""

    tenant: str
    kind: str
    hours: int | None

    def takes(self, kind: str) -> bool:
        """Whether it speaks of events of this type."""
        if self.kind.endswith(ANY):
            return kind.startswith(self.kind[:-1])
        return kind == self.kind

    def __str__(self) -> str:
        """As `read` takes it."""
        scope = self.tenant if self.kind == ANY else f"{self.tenant}/{self.kind}"
        if self.hours is None:
            return f"{scope}={FOREVER}"
        return f"{scope}={self.hours}h" if self.hours % 24 else f"{scope}={self.hours // 24}d"


def read(text: str) -> tuple[Rule, ...]:
    """The rules in `text`, the one that holds first. Raises ValueError that names the faulty part."""
    rules: dict[tuple[str, str], Rule] = {}
    for place, part in enumerate(text.split(","), 1):
        if not part.strip():
            continue
        try:
            rule = _rule(part.strip())
            if (rule.tenant, rule.kind) in rules:
                raise ValueError("this is said twice")
        except ValueError as error:
            raise ValueError(f"part {place}, {part.strip()!r}: {error}") from None
        rules[rule.tenant, rule.kind] = rule
    return tuple(sorted(rules.values(), key=_weight, reverse=True))


def _rule(part: str) -> Rule:
    scope, equals, time = (piece.strip() for piece in part.partition("="))
    if not equals:
        raise ValueError("write tenant=time or tenant/kind=time, such as acme=90d")
    tenant, slash, kind = scope.partition("/")
    if not _TENANT.fullmatch(tenant):
        raise ValueError(f"{tenant!r} is no tenant; * is any")
    if slash and not _KIND.fullmatch(kind):
        raise ValueError(f"{kind!r} is no event type, such as agent.thinking or span.*")
    return Rule(tenant, kind if slash else ANY, None if time == FOREVER else _hours(time))


def _hours(time: str) -> int:
    found = _TIME.fullmatch(time)
    if found is None:
        raise ValueError(f"{time!r} is no time; write days as 90d, hours as 12h, or {FOREVER}")
    hours = int(found[1]) * (24 if found[2] == "d" else 1)
    if not 0 < hours <= LONGEST_HOURS:
        raise ValueError(f"{time!r} is out of range: 1h to 36500d, or {FOREVER}")
    return hours


def _weight(rule: Rule) -> tuple[bool, int, bool]:
    """Exact kinds before prefixes, long before short, and the named tenant before any."""
    return not rule.kind.endswith(ANY), len(rule.kind), rule.tenant != ANY
