"""`turnstile replay`: what was said in a session, read from the archive?"""

from __future__ import annotations

import time
from typing import Annotated

import typer

from services.operator import addresses
from services.operator.archive import Archive
from services.operator.failures import Impossible, failing_clearly
from services.operator.line import as_json, line, pause
from shared.settings import TenantSettings


def replay(
    session: Annotated[str, typer.Argument(help="The session's id (ses_…).")],
    tenant: Annotated[
        str, typer.Option(help="Whose session; may be left out where there is one tenant.")
    ] = "",
    first: Annotated[int, typer.Option("--from", min=1, help="The first seq.")] = 1,
    last: Annotated[int | None, typer.Option("--to", min=1, help="The last seq.")] = None,
    speed: Annotated[
        float, typer.Option(min=0, help="1: as recorded, 10: ten times faster, 0: at once.")
    ] = 0,
    json_lines: Annotated[bool, typer.Option("--json", help="JSON, one event a line.")] = False,
) -> None:
    """Print a session's events from ClickHouse, in order. Never calls the provider."""
    where = addresses.archive()
    with failing_clearly(f"replaying {session} from {where.shown}", where.secrets):
        owner = tenant or _only_tenant()
        before = ""
        seen = 0
        for event in Archive(where.url).events(owner, session, first, last):
            time.sleep(pause(before, event.at, speed))
            typer.echo(as_json(event) if json_lines else line(event))
            before, seen = event.at, seen + 1
        if not seen:
            raise Impossible(
                f"tenant {owner} has no such events there (the recorder may be behind)"
            )


def _only_tenant() -> str:
    known = TenantSettings().known_tenants or frozenset()
    if len(known) != 1:
        raise Impossible("say whose session it is: --tenant NAME")
    return next(iter(known))
