"""`turnstile cost`: what was paid for, by tenant, user, agent, model or day; `caps` below it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated

import msgspec
import typer

from services.operator import addresses
from services.operator.archive import ArchiveReader
from services.operator.costs.caps import caps
from services.operator.costs.export import export
from services.operator.costs.reconcile import reconcile
from services.operator.failures import failing_clearly
from services.operator.printable import in_columns, plain
from shared.costs import BY, FIELDS, CostRow, Wanted, dimensions, question, rows

_DAY = ["%Y-%m-%d"]


def cost() -> typer.Typer:
    """The `cost` commands; alone it tells what was paid for."""
    cli = typer.Typer(rich_markup_mode=None)
    cli.callback(invoke_without_command=True)(told)
    cli.command("export")(export)
    cli.command("reconcile")(reconcile)
    cli.add_typer(caps(), name="caps")
    return cli


def told(
    context: typer.Context,
    by: Annotated[str, typer.Option(help=f"Comma-separated: {', '.join(BY)}.")] = "tenant,day",
    tenant: Annotated[str, typer.Option(help="Of this tenant only.")] = "",
    since: Annotated[datetime | None, typer.Option(formats=_DAY, help="First day, UTC.")] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=_DAY, help="The day after the last one, UTC.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Tell what was paid for, from the ledger: dollars, tokens, hours of running time.

    Requests to models without a price are counted under `unpriced`: their money is in the rows without a model.
    """
    if context.invoked_subcommand is not None:
        return
    try:
        names = dimensions(by)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--by") from error
    days = since and since.date(), until and until.date()
    wanted = Wanted(by=names, tenant=tenant, since=days[0], until=days[1])
    where = addresses.archive()
    with failing_clearly(f"reading costs from {where.shown}", where.secrets):
        statement, parameters = question(wanted)
        found = rows(wanted, ArchiveReader(where.url).query(statement, **parameters))
    for line in map(_json, found) if as_json else table(names, found):
        typer.echo(line)


def _json(row: CostRow) -> str:
    return msgspec.json.encode(row).decode()


def table(names: tuple[str, ...], found: Iterable[CostRow]) -> list[str]:
    """The rows as lines of a table, and their sum in the last one."""
    found = list(found)
    header = [*names, "usd", "of it estimated", "input", "output", "hours", "unpriced"]
    cells = [[*_names(names, row), *_figures([row])] for row in found]
    total = ["total", *[""] * (len(names) - 1), *_figures(found)]
    lines = [header, *cells, total]
    return in_columns(lines, left=len(names))


def _names(names: tuple[str, ...], row: CostRow) -> list[str]:
    return [plain(str(getattr(row, FIELDS[name]))) or "-" for name in names]


def _figures(found: list[CostRow]) -> list[str]:
    """Summed in millionths: sums of fractions would not be exact."""
    usd, estimated = (
        sum(round(getattr(row, name) * 1e6) for row in found) / 1e6
        for name in ("cost_usd", "estimated_usd")
    )
    into = sum(row.input_tokens + row.cache_read_tokens + row.cache_write_tokens for row in found)
    out = sum(row.output_tokens for row in found)
    hours = sum(row.active_seconds for row in found) / 3600
    unpriced = sum(row.unpriced_requests for row in found)
    return [
        f"{usd:.6f}",
        f"{estimated:.6f}",
        f"{into:,}",
        f"{out:,}",
        f"{hours:.2f}",
        f"{unpriced:,}",
    ]
