"""`turnstile dead`: lists and shows dead letters, sends them again or drops them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from services.operator import addresses
from services.operator.dead.letter import DeadLetter, page, table
from services.operator.dead.letters import newest, oldest_open, one
from services.operator.dead.redrive import drop, hindrance, redrive
from services.operator.failures import failing_clearly
from shared.clock import utcnow

AsJson = Annotated[bool, typer.Option("--json", help="JSON, one letter a line.")]
Reason = Annotated[str, typer.Option(help="Only with this reason (bad_value, …).")]
OfSession = Annotated[str, typer.Option(help="Only of this session id.")]
Places = Annotated[
    list[str] | None,
    typer.Option("--id", help="Only this one, PARTITION/OFFSET; may be given again."),
]
Scan = Annotated[
    int, typer.Option(min=1, max=1_000_000, help="Newest records looked at in each partition.")
]
Limit = Annotated[int, typer.Option(min=1, max=100_000, help="How many at most, the oldest.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say which ones and change nothing.")]
_PLACE = re.compile(r"(\d{1,6})/(\d{1,18})")


def dead() -> typer.Typer:
    """The `dead` commands."""
    cli = typer.Typer(
        help="Dead letters: records nobody could use, as they came, with the reason.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    cli.command("list")(list_letters)
    cli.command("show")(show_letter)
    cli.command("redrive")(redrive_letters)
    cli.command("drop")(drop_letters)
    return cli


def list_letters(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, the newest.")] = 50,
    reason: Reason = "",
    session: OfSession = "",
    scan: Scan = 10_000,
    settled: Annotated[
        bool, typer.Option("--all", help="Also those that were redriven or dropped.")
    ] = False,
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
                wanted=_wanted(reason, session, None),
                settled=settled,
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


def redrive_letters(
    reason: Reason = "",
    session: OfSession = "",
    places: Places = None,
    limit: Limit = 1_000,
    scan: Scan = 1_000_000,
    dry_run: DryRun = False,
) -> None:
    """Put inputs that died back on turnstile.inputs.v1, once, in the order they came per session.

    Key, value and headers are as they came, so a turn or input that was taken in meanwhile is not taken in again. A
    turn that failed (`turn_failed`) stays failed and is asked again as another one, TURN:again-PARTITION-OFFSET.
    A letter that was redriven or dropped is left alone; one that dies again is a new letter.
    """
    where, options = addresses.log()
    with failing_clearly(f"redriving dead letters at {where.shown}", where.secrets):
        wanted = _wanted(reason, session, _places(places))
        found = asyncio.run(oldest_open(where.url, options, limit=limit, scan=scan, wanted=wanted))
        good = [letter for letter in found if hindrance(letter) is None]
        for letter in found:
            if (why := hindrance(letter)) is not None:
                typer.echo(f"left {letter.place}: {why}", err=True)
        if not dry_run:
            asyncio.run(redrive(where.url, options, good, utcnow()))
    _tell("would redrive" if dry_run else "redriven", good)


def drop_letters(
    reason: Reason = "",
    session: OfSession = "",
    places: Places = None,
    limit: Limit = 1_000,
    scan: Scan = 1_000_000,
    dry_run: DryRun = False,
) -> None:
    """Settle letters without redriving them. Name which: --reason, --session or --id.

    They are no longer listed or redriven, and stay readable (`list --all`, `show`) until their retention ends.
    """
    if not (reason or session or places):
        raise typer.BadParameter("say which: --reason, --session or --id")
    where, options = addresses.log()
    with failing_clearly(f"dropping dead letters at {where.shown}", where.secrets):
        wanted = _wanted(reason, session, _places(places))
        found = asyncio.run(oldest_open(where.url, options, limit=limit, scan=scan, wanted=wanted))
        if not dry_run:
            asyncio.run(drop(where.url, options, found, utcnow()))
    _tell("would drop" if dry_run else "dropped", found)


def _wanted(
    reason: str, session: str, places: frozenset[str] | None
) -> Callable[[DeadLetter], bool]:
    def wanted(letter: DeadLetter) -> bool:
        if places is not None and letter.place not in places:
            return False
        return reason in ("", letter.reason) and session in ("", letter.key)

    return wanted


def _places(given: Sequence[str] | None) -> frozenset[str] | None:
    """The places asked for; None: any."""
    for place in given or ():
        if _PLACE.fullmatch(place) is None:
            raise typer.BadParameter(f"{place!r} is not PARTITION/OFFSET, such as 3/141")
    return frozenset(given) if given else None


def _tell(what: str, letters: Sequence[DeadLetter]) -> None:
    for letter in letters:
        typer.echo(f"{what} {letter.place}  {letter.reason}  {letter.key}")
    typer.echo(f"{what}: {len(letters)}")
