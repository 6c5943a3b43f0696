"""`turnstile cost caps`: which caps there are and how they stand; sets and removes them."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
import typer

from services.operator import addresses
from services.operator.costs.cap_rows import KEY, Standing, put, remove, standing
from services.operator.failures import Impossible, failing_clearly
from services.operator.owner import Tenant, owner
from services.operator.printable import in_columns, plain
from shared.session.caps import EACH, usd
from shared.session.inputs import Id

User = Annotated[str, typer.Option(help="On this user; '*': on each user by itself.")]
Session = Annotated[str, typer.Option(help="On this session; '*': on each session by itself.")]
Month = Annotated[bool, typer.Option("--month", help="For each calendar month (UTC); else in all.")]


def caps() -> typer.Typer:
    """The `caps` commands."""
    cli = typer.Typer(
        help="Caps on what a tenant, a user or a session may cost. A change holds within seconds.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    cli.command("list")(list_caps)
    cli.command("set")(set_cap)
    cli.command("remove")(remove_cap)
    return cli


def list_caps(
    tenant: Annotated[str, typer.Option(help="Of this tenant only.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List caps: limit, what is spent by the ledger, what running turns have reserved, when it resets."""
    where = addresses.database()
    with failing_clearly(f"reading caps from {where.shown}", where.secrets):
        found = asyncio.run(standing(where.url, tenant))
    if as_json:
        for one in found:
            typer.echo(msgspec.json.encode(one).decode())
    else:
        for line in _table(found) or ["no caps"]:
            typer.echo(line)


def set_cap(
    usd_limit: Annotated[float, typer.Argument(metavar="USD", min=0.000001, max=1e9)],
    tenant: Tenant = "",
    user: User = "",
    session: Session = "",
    month: Month = False,
) -> None:
    """Set a cap of so many US dollars, on the tenant unless a user or a session is named; one that is there gets
    the new limit. Below what is spent or reserved it lets running turns end and refuses new ones."""
    where = addresses.database()
    with failing_clearly(f"setting a cap in {where.shown}", where.secrets):
        key = _key(tenant, user, session, month)
        asyncio.run(put(where.url, key, round(usd_limit * 1e6)))
    typer.echo(f"{_named(key)}: {usd(round(usd_limit * 1e6))}")


def remove_cap(
    tenant: Tenant = "", user: User = "", session: Session = "", month: Month = False
) -> None:
    """Remove a cap. What was spent stays in the ledger."""
    where = addresses.database()
    with failing_clearly(f"removing a cap from {where.shown}", where.secrets):
        key = _key(tenant, user, session, month)
        if not asyncio.run(remove(where.url, key)):
            raise Impossible(f"there is no cap {_named(key)}: see `turnstile cost caps list`")
    typer.echo(f"{_named(key)}: removed")


def _key(tenant: str, user: str, session: str, month: bool) -> dict[str, str]:
    if user and session:
        raise typer.BadParameter("name a user or a session, not both: set two caps")
    for option, who in (("--user", user), ("--session", session)):
        if who and who != EACH:
            _require_id(option, who)
    scope = "user" if user else "session" if session else "tenant"
    period = "month" if month else "all"
    values = (owner(tenant), scope, user or session, period)
    return dict(zip(KEY, values, strict=True))


def _require_id(option: str, who: str) -> None:
    try:
        msgspec.convert(who, Id)
    except msgspec.ValidationError as error:
        raise typer.BadParameter(
            f"{who!r} is no id: 1-128 of A-Za-z0-9._:-, or '{EACH}' for each", param_hint=option
        ) from error


def _named(key: dict[str, str]) -> str:
    whose = f"{key['scope']} {key['who']}".strip()
    span = "each month" if key["period"] == "month" else "in all"
    return f"{key['tenant_id']}, {whose}, {span}"


def _table(found: list[Standing]) -> list[str]:
    if not found:
        return []
    header = ["tenant", "on", "period", "limit", "spent", "reserved", "resets"]
    return in_columns([header, *(_cells(one) for one in found)])


def _cells(one: Standing) -> list[str]:
    amounts = (one.limit_usd, one.spent_usd, one.reserved_usd)
    return [
        plain(one.tenant_id),
        plain(f"{one.scope} {one.who}".strip()),
        one.period,
        *(usd(round(amount * 1e6)) for amount in amounts),
        one.resets_at or "never",
    ]
