"""What differs between the provider's report and the ledger, and why. Pure.

Amounts are millionths of a dollar; a difference is what the report has more. Each provider session's difference is
taken apart into what explains it, in the order of REASONS; what is left is `unexplained`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from services.operator.audits.cost_report import MICRO_PER_CENT, CostReport

Reason = Literal[
    "not_ours",
    "not_reported_yet",
    "at_the_edge",
    "before_the_ledger",
    "rounding",
    "estimate",
    "unexplained",
]
REASONS: dict[Reason, str] = {
    "not_ours": "sessions at the provider that are not of this installation",
    "not_reported_yet": "charged after the time that the report knows of",
    "at_the_edge": "charged by the ledger just outside of the time asked for, or for just before it",
    "before_the_ledger": "spent before the session had a ledger",
    "rounding": "a cent or less for a session, by which the ledger may differ",
    "estimate": "within what the ledger itself calls estimated",
    "unexplained": "nothing explains it",
}


@dataclass(frozen=True, slots=True)
class OfLedger:
    """What the ledger has of a provider session: in the time asked for, and of that what is `estimated` (counted
    without signs) and what is `late`, newer than the report. `after`: charged within the hour after that time,
    `first` within its first hour. `brought`: brought forward in that time, and not in `micro_usd`. `tokens` are
    those of the time asked for, in the order of `cost_report.KINDS`."""

    tenant: str
    session: str
    micro_usd: int = 0
    estimated: int = 0
    late: int = 0
    after: int = 0
    first: int = 0
    brought: int = 0
    tokens: tuple[int, ...] = ()
    erased: bool = False


@dataclass(slots=True)
class Difference:
    """One provider session. `parts` add up to `reported - ledger`; `tenant` and `session` are "" where none of ours
    is known."""

    provider_session: str
    reported: int
    ledger: int
    tenant: str = ""
    session: str = ""
    parts: dict[Reason, int] = field(default_factory=dict)

    @property
    def explained(self) -> bool:
        return "unexplained" not in self.parts


def differences(
    report: CostReport, ledger: Mapping[str, OfLedger], ours: Collection[str]
) -> list[Difference]:
    """Those of every session that differs. `ours`: sessions of this installation without a ledger."""
    found = []
    for name in sorted({*report.listed, *ledger}):
        reported = int(report.listed.get(name, 0).__round__())
        of_ledger = ledger.get(name)
        if of_ledger is None:
            reason: Reason = "unexplained" if name in ours else "not_ours"
            found.append(Difference(name, reported, 0, parts={reason: reported}))
        elif reported != of_ledger.micro_usd:
            found.append(_of(name, reported, of_ledger))
    return [one for one in found if one.reported != one.ledger]


def _of(name: str, reported: int, ours: OfLedger) -> Difference:
    left = reported - ours.micro_usd
    parts: dict[Reason, int] = {}
    # How far each reason may go down, and up.
    bounds: Iterable[tuple[Reason, int, int]] = (
        ("not_reported_yet", -ours.late, 0),
        ("before_the_ledger", 0, ours.brought),
        ("at_the_edge", -ours.first, ours.after),
        ("estimate", -ours.estimated, ours.estimated),
    )
    for reason, down, up in bounds:
        if abs(left) <= MICRO_PER_CENT:
            break
        part = max(min(down, 0), min(left, max(up, 0)))
        if part:
            parts[reason] = part
            left -= part
    if left:
        parts["rounding" if abs(left) <= MICRO_PER_CENT else "unexplained"] = left
    return Difference(name, reported, ours.micro_usd, ours.tenant, ours.session, parts)
