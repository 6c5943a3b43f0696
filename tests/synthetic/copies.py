"""Makes ten million events of a thousand patterns: each copy has ids, tenant, user and days of its own.

Filling blanks in bytes costs a few microseconds an event; writing events costs ten times that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random

from tests.synthetic.crowd import Calendar, Crowd
from tests.synthetic.patterns import TENANT, TOKEN, USER, Pattern, day_text, pattern


@dataclass(frozen=True, slots=True)
class Plan:
    """What to make. The same plan gives the same bytes. `days` end with `until`."""

    events: int
    seed: int = 1
    until: date = date(2026, 11, 21)
    days: int = 90
    tenants: int = 20
    users: int = 400
    patterns: int = 1_000


def sessions(plan: Plan) -> Iterator[tuple[bytes, int]]:
    """Sessions in order of their first day as JSON lines (values of `turnstile.events.v1`), and how many each has.

    Exactly `plan.events` in all: the last session may end early, without a gap.
    """
    chance = Random(plan.seed)
    kinds = [pattern(chance) for _ in range(plan.patterns)]
    crowd, calendar = Crowd(plan.tenants, plan.users), Calendar(plan.until, plan.days)
    made = 0
    while made < plan.events:
        kind = chance.choice(kinds)
        lines = kind.lines[: plan.events - made]
        tenant, user = crowd.somebody(chance)
        token = f"{chance.getrandbits(64):016x}"
        yield (
            _filled(lines, kind, tenant, user, token, calendar.day(made / plan.events)),
            len(lines),
        )
        made += len(lines)


def _filled(
    lines: tuple[bytes, ...], kind: Pattern, tenant: str, user: str, token: str, first: date
) -> bytes:
    text = b"\n".join(lines) + b"\n"
    text = text.replace(TOKEN.encode(), token.encode()).replace(TENANT.encode(), tenant.encode())
    text = text.replace(USER.encode(), user.encode())
    for number in kind.days:
        day = (first + timedelta(days=number)).isoformat().encode()
        text = text.replace(day_text(number), day)
    return text
