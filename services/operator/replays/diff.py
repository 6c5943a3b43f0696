"""`turnstile diff`: the differences of two sessions, or of two points of one."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from services.operator import addresses
from services.operator.archive import ArchiveReader
from services.operator.failures import failing_clearly
from services.operator.owner import Tenant, owner
from services.operator.past import Past
from services.operator.replays.only_archive import speaking_to_the_archive_only
from services.operator.replays.points import as_json, as_text, of_points, of_sessions
from services.operator.replays.state import past_at

SAME, DIFFERENT, COULD_NOT_LOOK = 0, 1, 2
Seq = Annotated[int | None, typer.Option(min=1, help="Compare A at this event …")]
ToSeq = Annotated[int | None, typer.Option(min=1, help="… with the same session at this one.")]


def diff(
    a: Annotated[str, typer.Argument(help="A session's id.", metavar="A")],
    b: Annotated[
        str, typer.Argument(help="Another's; or leave it out and give two points.", metavar="B")
    ] = "",
    tenant: Tenant = "",
    from_seq: Seq = None,
    to_seq: ToSeq = None,
    json_out: Annotated[bool, typer.Option("--json", help="JSON, one object.")] = False,
) -> None:
    """Compare two sessions, or two points of one: states, and turn by turn outcome, reply, tools, tokens and cost.

    Of two sessions, turns are paired by their place; ids and times are not compared. Never calls the provider.

    Exit codes: 0 the same, 1 they differ, 2 it could not look.
    """
    points = [seq for seq in (from_seq, to_seq) if seq is not None]
    if len(points) != (0 if b else 2):
        raise typer.BadParameter("give two sessions, or one with --from-seq and --to-seq")
    where = addresses.archive()
    with (
        failing_clearly(f"comparing in {where.shown}", where.secrets, code=COULD_NOT_LOOK),
        speaking_to_the_archive_only(where.url),
    ):
        archive, tenant_id = ArchiveReader(where.url), owner(tenant)
        left = past_at(archive, tenant_id, a, from_seq)
        right = past_at(archive, tenant_id, b or a, to_seq)
    found = of_sessions(left, right) if b else of_points(left, right)
    if json_out:
        sides = {"a": _named(left), "b": _named(right)}
        whole = {**sides, "differences": [as_json(one) for one in found]}
        typer.echo(json.dumps(whole, ensure_ascii=False))
    elif found:
        typer.echo(f"a: {_words(left)}\nb: {_words(right)}\n{as_text(found)}")
    else:
        typer.echo("no difference")
    raise typer.Exit(DIFFERENT if found else SAME)


def _named(past: Past) -> dict[str, object]:
    assert past.state is not None
    return {"session_id": past.state.session_id, "at_seq": past.state.last_seq}


def _words(past: Past) -> str:
    assert past.state is not None
    turns = len(past.turns())
    return f"{past.state.session_id} at seq {past.state.last_seq}, {turns} turns"
