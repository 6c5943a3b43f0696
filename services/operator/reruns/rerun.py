"""`turnstile rerun`: asks recorded turns of another agent and compares the replies."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from services.operator import addresses
from services.operator.archive import ArchiveReader
from services.operator.failures import Impossible, failing_clearly
from services.operator.owner import Tenant, owner
from services.operator.reruns.again import compared, driven, plans
from services.operator.reruns.bounds import Pace, RunBudget
from services.operator.reruns.choice import agents_of, chosen
from services.operator.reruns.compare import Pair, as_json, summary
from services.operator.reruns.drive import Ended, Wanted
from services.operator.reruns.plan import Plan
from services.operator.reruns.report import page
from shared.clock import utcnow
from shared.moment import rfc3339

DONE, CUT_SHORT, STOPPED = 0, 3, 130
_RUN = re.compile(r"[A-Za-z0-9-]{1,32}")


def rerun(
    agent: Annotated[str, typer.Option(help="Agent id, or ID@VERSION, that gets the turns.")],
    session: Annotated[
        list[str] | None, typer.Option(help="A recorded session; may be given again.")
    ] = None,
    where: Annotated[
        str, typer.Option(help="Sessions with such a turn: SQL over the columns of turn_facts.")
    ] = "",
    where_session: Annotated[
        str, typer.Option(help="Sessions such as this: SQL over the columns of session_facts.")
    ] = "",
    tenant: Tenant = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many sessions at most.")] = 20,
    rate: Annotated[float, typer.Option(min=0.1, max=6_000, help="Turns a minute.")] = 30.0,
    budget_usd: Annotated[float, typer.Option(min=0.01, help="Dollars at most, for all.")] = 10.0,
    sessions: Annotated[int, typer.Option(min=1, max=100, help="Sessions at a time.")] = 4,
    patience: Annotated[float, typer.Option(min=1, help="Seconds one turn may take.")] = 1_800.0,
    run: Annotated[str, typer.Option(help="Go on with the run of this name; else a new one.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write the report there, as HTML.")] = None,
    json_out: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
    dry_run: Annotated[
        bool, typer.Option(help="Say what would be sent, and send nothing.")
    ] = False,
) -> None:
    """Send recorded user turns to another agent, into shadow sessions, and compare turn by turn.

    This calls the provider and costs money: what a shadow session may cost is set aside before it is opened, and is
    its budget at the provider. Tools run. People are not asked: a call is answered as it was in the record, and
    denied when it was not made there. A run that was stopped goes on with --run and sends no turn twice.

    Exit codes: 0 every turn compared, 3 the budget would not last, 130 stopped; 1 it could not be done.
    """
    if bool(session) == bool(where or where_session):
        raise typer.BadParameter("choose by --session, or by --where and --where-session")
    name = run or f"{utcnow():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    if not _RUN.fullmatch(name):
        raise typer.BadParameter("--run is up to 32 of A-Za-z0-9-")
    archive_at, (log_at, _) = addresses.archive(), addresses.log()
    with failing_clearly(f"rerun {name}", archive_at.secrets + log_at.secrets):
        archive, tenant_id = ArchiveReader(archive_at.url), owner(tenant)
        names = session or chosen(archive, tenant_id, where, where_session, limit)
        chosen_plans = plans(archive, tenant_id, name, names[:limit])
        _check_run(archive, tenant_id, name, agent)
        _say(_intent(chosen_plans, agent, name, budget_usd))
        if dry_run:
            return
        wanted = Wanted(run=name, agent=agent, patience=patience, sessions=sessions)
        ended = asyncio.run(
            driven(wanted, archive, chosen_plans, (Pace(rate), RunBudget(budget_usd)), _say)
        )
        found = [pair for one in chosen_plans for pair in compared(archive, one)]
        _report(found, wanted, ended, out, json_out)
    if ended != "done":
        _say(f"go on with: turnstile rerun --run {name} and the same options")
        raise typer.Exit(STOPPED if ended == "stopped" else CUT_SHORT)


def _check_run(archive: ArchiveReader, tenant: str, run: str, agent: str) -> None:
    """Raise Impossible when the run was begun with another agent."""
    others = agents_of(archive, tenant, run) - {agent}
    if others:
        raise Impossible(f"run {run} was begun with agent {', '.join(sorted(others))}")


def _report(
    found: Sequence[Pair], wanted: Wanted, ended: Ended, out: Path | None, json_out: bool
) -> None:
    sums = summary(found)
    if out is not None:
        at = rfc3339(utcnow())
        out.write_text(page(found, run=wanted.run, agent=wanted.agent, at=at, ended=ended))
        _say(f"report: {out}")
    if json_out:
        head = {"run": wanted.run, "agent": wanted.agent, "ended": ended, "summary": sums}
        whole = {**head, "turns": [as_json(pair) for pair in found]}
        typer.echo(json.dumps(whole, ensure_ascii=False))
    else:
        typer.echo("\n".join(f"{name:<16} {value}" for name, value in sums.items()))


def _intent(plans: Sequence[Plan], agent: str, run: str, budget: float) -> str:
    turns, cost = sum(len(one.turns) for one in plans), sum(one.cost_usd for one in plans)
    return (
        f"run {run}: {turns} turns of {len(plans)} sessions, recorded for ${cost:.4f}, "
        f"go to {agent} for ${budget:.2f} at most"
    )


def _say(text: str) -> None:
    typer.echo(text, err=True)
