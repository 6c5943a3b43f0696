"""`turnstile cost reconcile`: the ledger held against the provider's own reports of costs and tokens."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
import typer

from services.operator import addresses
from services.operator.audits.cost_report import KINDS, CostReport, UsageReport
from services.operator.audits.provider import connected
from services.operator.costs.differences import REASONS, Difference, OfLedger, differences
from services.operator.costs.ledger import known, read_ledger
from services.operator.failures import failing_clearly
from services.operator.printable import plain
from shared.clock import utcnow
from shared.orphans import owner
from shared.settings import ReportSettings

UNEXPLAINED = 3
# The longest range that the provider reports on at once.
WINDOW = timedelta(days=31)
SHOWN = 20
# Sessions without a ledger that the provider is asked about, the dearest first.
LOOKED_AT = 500
_DAY = ["%Y-%m-%d"]


@dataclass(slots=True)
class Account:
    """Both sides, and what differs. Amounts in millionths of a dollar; `erased` is what the ledger has of sessions
    that were erased, which the archive, and so `turnstile cost`, has no more."""

    since: datetime
    until: datetime
    report: CostReport
    ledger: dict[str, OfLedger] = field(default_factory=dict)
    usage: UsageReport = field(default_factory=UsageReport)
    found: list[Difference] = field(default_factory=list)

    @property
    def reported(self) -> int:
        return round(sum(self.report.listed.values()))

    @property
    def reckoned(self) -> int:
        return sum(one.micro_usd for one in self.ledger.values())

    @property
    def erased(self) -> int:
        return sum(one.micro_usd for one in self.ledger.values() if one.erased)

    @property
    def unexplained(self) -> list[Difference]:
        """Those without an explanation, the largest first."""
        left = [one for one in self.found if not one.explained]
        return sorted(left, key=lambda one: -abs(one.parts["unexplained"]))

    def tokens(self) -> Iterator[tuple[str, int, int]]:
        """Each kind of tokens, as reported and by the ledger, of the sessions that the ledger has."""
        ours = [(self.usage.tokens.get(name), one.tokens) for name, one in self.ledger.items()]
        for place, kind in enumerate(KINDS):
            reported = sum(told[place] for told, _ in ours if told)
            yield kind, reported, sum(tokens[place] for _, tokens in ours)

    def reasons(self) -> Iterator[tuple[str, int, int]]:
        """Each reason there is, for how many sessions, and how much in all."""
        count = Counter(reason for one in self.found for reason in one.parts)
        for reason in REASONS:
            if count[reason]:
                yield reason, count[reason], sum(one.parts.get(reason, 0) for one in self.found)


def reconcile(
    since: Annotated[datetime, typer.Option(formats=_DAY, help="First day, UTC.")],
    until: Annotated[
        datetime | None,
        typer.Option(formats=_DAY, help="The day after the last one, UTC. Default: this hour."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Hold the ledger against the provider's cost report, session by session, and explain each difference.

    The tokens of the sessions that both know are told beside it. Needs ANTHROPIC_ANALYTICS_KEY, a key that may read
    analytics (default: ANTHROPIC_API_KEY). Compared are list prices of managed sessions, in full hours. Exit codes:
    0 every difference is explained, 3 one is not, 1 it could not be done.
    """
    first, last = since.replace(tzinfo=UTC), (until or _this_hour()).replace(tzinfo=UTC)
    if first >= last:
        raise typer.BadParameter("must be later than --since", param_hint="--until")
    settings, database = ReportSettings(), addresses.database()
    with failing_clearly("reconciling costs", (*database.secrets, *settings.secrets)):
        account = asyncio.run(_reconciled(settings, database.url, first, last))
    for line in [_json(account)] if as_json else _lines(account):
        typer.echo(line)
    raise typer.Exit(UNEXPLAINED if account.unexplained else 0)


def _this_hour() -> datetime:
    return utcnow().replace(minute=0, second=0, microsecond=0)


async def _reconciled(
    settings: ReportSettings, url: str, since: datetime, until: datetime
) -> Account:
    report, usage = CostReport(), UsageReport()
    async with connected(settings.anthropic_analytics_key) as provider:
        start = since
        while start < until:
            end = min(start + WINDOW, until)
            report.join(await provider.costs(start, end))
            usage.join(await provider.usage(start, end))
            start = end
    ledger = await read_ledger(url, since, until, report.refreshed_at)
    ours = await _ours(url, report, ledger)
    account = Account(since, until, report, ledger, usage)
    account.found = differences(report, ledger, ours)
    return account


async def _ours(url: str, report: CostReport, ledger: dict[str, OfLedger]) -> set[str]:
    """Reported sessions without a ledger whose mark names a session of this installation: they should have one."""
    strange = [name for name in report.listed if name and name not in ledger]
    strange.sort(key=lambda name: -report.listed[name])
    marked = {}
    async with connected() as provider:
        for name in strange[:LOOKED_AT]:
            key = owner(await provider.mark(name) or "")
            if key is not None:
                marked[name] = key
    there = await known(url, set(marked.values()))
    return {name for name, key in marked.items() if key in there}


def _usd(micro: int) -> str:
    return f"{micro / 1e6:,.6f}"


def _lines(account: Account) -> Iterator[str]:
    report = account.report
    yield f"from {account.since:%Y-%m-%d %H:%M} until {account.until:%Y-%m-%d %H:%M} UTC, in US dollars"
    yield f"{'reported, at list price':38}{_usd(account.reported):>18}"
    yield f"{'reported, after discounts':38}{_usd(round(report.billed)):>18}"
    yield f"{'the ledger':38}{_usd(account.reckoned):>18}"
    yield f"{'difference':38}{_usd(account.reported - account.reckoned):>18}"
    for reason, count, amount in account.reasons():
        yield f"  {reason:36}{_usd(amount):>18}  {count} session(s): {REASONS[reason]}"  # type: ignore[index]
    if account.erased:
        yield f"{'of the ledger, erased sessions':38}{_usd(account.erased):>18}  `turnstile cost` leaves them out"
    for kind, reported, reckoned in account.tokens():
        label = kind.replace("_", " ")
        yield f"{label:20}{reported:>18,} reported, {reckoned:,} in the ledger: {reported - reckoned:+,}"
    yield f"reported until {report.refreshed_at or 'a time that it does not say'}"
    for one in account.unexplained[:SHOWN]:
        whose = plain(f"{one.tenant}/{one.session}") if one.session else "no ledger"
        yield (
            f"unexplained: {plain(one.provider_session) or 'outside of any session'} ({whose}): reported "
            f"{_usd(one.reported)}, ledger {_usd(one.ledger)}, left {_usd(one.parts['unexplained'])}"
        )
    if len(account.unexplained) > SHOWN:
        yield f"and {len(account.unexplained) - SHOWN} more: see --json"


def _json(account: Account) -> str:
    found = {
        "since": account.since,
        "until": account.until,
        "reported_until": account.report.refreshed_at,
        "reported_usd": account.reported / 1e6,
        "billed_usd": round(account.report.billed) / 1e6,
        "ledger_usd": account.reckoned / 1e6,
        "erased_usd": account.erased / 1e6,
        "tokens": {
            kind: {"reported": reported, "ledger": reckoned}
            for kind, reported, reckoned in account.tokens()
        },
        "reasons": {
            reason: {"sessions": count, "usd": amount / 1e6}
            for reason, count, amount in account.reasons()
        },
        "differences": [
            {
                "provider_session_id": one.provider_session,
                "tenant_id": one.tenant,
                "session_id": one.session,
                "reported_usd": one.reported / 1e6,
                "ledger_usd": one.ledger / 1e6,
                "parts_usd": {reason: amount / 1e6 for reason, amount in one.parts.items()},
            }
            for one in account.found
        ],
    }
    return msgspec.json.encode(found).decode()
