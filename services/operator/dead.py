"""`turnstile dead`: which records could nobody use, and why?"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Annotated

import typer

from services.operator import addresses
from services.operator.dead_letter import page, table
from services.operator.dead_letters import newest, one
from services.operator.failures import failing_clearly

AsJson = Annotated[bool, typer.Option("--json", help="JSON, one letter a line.")]
_PLACE = re.compile(r"(\d{1,6})/(\d{1,18})")


def dead() -> typer.Typer:
    """The `dead` commands."""
    cli = typer.Typer(
        help="Look at dead letters: records nobody could use, as they came, with the reason.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    cli.command("list")(list_letters)
    cli.command("show")(show_letter)
    return cli


def list_letters(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, the newest.")] = 50,
    reason: Annotated[str, typer.Option(help="Only with this reason (bad_value, …).")] = "",
    session: Annotated[str, typer.Option(help="Only of this session id.")] = "",
    scan: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Newest records looked at in each partition.")
    ] = 10_000,
    as_json: AsJson = False,
) -> None:
    """List the newest dead letters, the last one last. Reading them changes nothing."""
    where, options = addresses.log()
    with failing_clearly(f"reading dead letters at {where.shown}", where.secrets):
        letters = asyncio.run(
            newest(
                where.url,
                options,
                limit=limit,
                scan=scan,
                wanted=lambda letter: reason in ("", letter.reason) and session in ("", letter.key),
            )
        )
    if as_json:
        for letter in letters:
            typer.echo(json.dumps(letter.as_json(), ensure_ascii=False))
    else:
        typer.echo(table(letters) if letters else "no dead letters")


def show_letter(
    place: Annotated[str, typer.Argument(help="PARTITION/OFFSET, as `dead list` prints it.")],
    as_json: AsJson = False,
) -> None:
    """Show one dead letter whole: reason, headers and value."""
    found = _PLACE.fullmatch(place)
    if found is None:
        raise typer.BadParameter(f"{place!r} is not PARTITION/OFFSET, such as 3/141")
    where, options = addresses.log()
    with failing_clearly(f"reading dead letter {place} at {where.shown}", where.secrets):
        letter = asyncio.run(one(where.url, options, int(found[1]), int(found[2])))
    typer.echo(json.dumps(letter.as_json(), ensure_ascii=False) if as_json else page(letter))
