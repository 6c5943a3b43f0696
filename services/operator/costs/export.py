"""`turnstile cost export`: the ledger as one Parquet file that FinOps tools read."""

from __future__ import annotations

import enum
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from services.operator import addresses
from services.operator.archive import ArchiveReader
from services.operator.costs.focus import statement
from services.operator.exports.file import whole_file
from services.operator.failures import Impossible, failing_clearly

PATIENCE_S = 600
SETTINGS = {
    "output_format_parquet_compression_method": "zstd",
    "max_execution_time": PATIENCE_S,
    "max_threads": 2,
}
_DAY = ["%Y-%m-%d"]


class Form(enum.StrEnum):
    """Forms of cost data."""

    focus = "focus"


def export(
    file: Annotated[Path, typer.Argument(help="The Parquet file to write.", dir_okay=False)],
    form: Annotated[
        Form, typer.Option("--format", help="focus: FOCUS 1.2, of the FinOps Foundation.")
    ] = Form.focus,
    tenant: Annotated[str, typer.Option(help="Of this tenant only.")] = "",
    since: Annotated[datetime | None, typer.Option(formats=_DAY, help="First day, UTC.")] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=_DAY, help="The day after the last one, UTC.")
    ] = None,
    account: Annotated[
        str,
        typer.Option(help="What BillingAccountId is to say: your organization at the provider."),
    ] = "anthropic",
    force: Annotated[bool, typer.Option("--force", help="Write a file that exists anew.")] = False,
) -> None:
    """Write what was paid for to a Parquet file in FOCUS form: a row a provider session, day, model and kind.

    Costs are at list price. The file gets its name when it is whole; one without any rows has its columns.
    """
    if since and until and since >= until:
        raise typer.BadParameter("must be later than --since", param_hint="--until")
    where = addresses.archive()
    with failing_clearly(f"exporting costs from {where.shown}", where.secrets):
        if file.exists() and not force:
            raise Impossible(f"{file} exists: --force writes it anew")
        if not file.parent.is_dir():
            raise Impossible(f"there is no folder {file.parent}")
        asked, parameters = statement(
            account, tenant, since and since.date(), until and until.date()
        )
        archive = ArchiveReader(where.url, PATIENCE_S)
        chunks = archive.stream(asked, "Parquet", parameters, SETTINGS)
        size = whole_file(file, chunks, lambda so_far: None)
        typer.echo(f"{size:,} bytes in {file}, {form.value}")
