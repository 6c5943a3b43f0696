"""`turnstile orphans`: lists provider sessions that a crash left behind, and archives them on request."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Annotated

import typer

from services.operator import addresses
from services.operator.audits import provider
from services.operator.audits.finding import Finding
from services.operator.audits.inbox import opened
from services.operator.audits.orphan_search import orphans
from services.operator.failures import failing_clearly
from shared.clock import utcnow
from shared.orphans import ADOPTABLE


def orphans_command(
    archive: Annotated[bool, typer.Option("--archive", help="Archive them.")] = False,
    days: Annotated[int, typer.Option(min=1, max=365, help="How far back to look.")] = 30,
    older_than: Annotated[
        float, typer.Option(min=0, help="Minutes; younger ones may be adopted yet.")
    ] = ADOPTABLE.total_seconds() / 60,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one session a line.")] = False,
) -> None:
    """List provider sessions that carry our mark and that no session of ours is bound to.

    The agent-worker archives them by itself, every TURNSTILE_ORPHAN_SWEEP_SECONDS.
    """
    database = addresses.database()
    with failing_clearly("looking for orphans", database.secrets):
        found = asyncio.run(_find(database.url, days, older_than, archive=archive))
    for orphan in found:
        typer.echo(json.dumps(orphan.as_json()) if as_json else orphan.line())
    if not as_json:
        typer.echo(f"orphans: {len(found)}")


async def _find(url: str, days: int, minutes: float, *, archive: bool) -> list[Finding]:
    found: list[Finding] = []
    async with AsyncExitStack() as stack:
        inbox = await stack.enter_async_context(opened(url))
        source = await stack.enter_async_context(provider.connected())
        now = utcnow()
        since, at_least = now - timedelta(days=days), timedelta(minutes=minutes)
        async for orphan in orphans(source, inbox, now=now, since=since, at_least=at_least):
            if archive:
                await source.archive(orphan.provider_session_id)
                found.append(replace(orphan, fixed="archived"))
            else:
                found.append(orphan)
    return found
