"""`turnstile erase`: forget a session, or all of a user's, everywhere, and show that it is so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from services.operator import addresses
from services.operator.erasing import run as erase_run
from services.operator.erasing.certificate import Erased, certificate
from services.operator.erasing.looks import Stores, every_store
from services.operator.erasing.topics import retentions
from services.operator.failures import Impossible, failing_clearly
from services.operator.owner import owner
from shared.clock import utcnow
from shared.session.key import SessionKey

INCOMPLETE = 1
SHOWN = 10


def erase(
    session: Annotated[str, typer.Option(help="This session.")] = "",
    user: Annotated[str, typer.Option(help="All sessions of this user.")] = "",
    tenant: Annotated[
        str, typer.Option(help="Whose; may be left out where it is clear from the session.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    timeout: Annotated[
        float, typer.Option(min=1, max=86_400, help="Seconds to wait until all is gone.")
    ] = 900,
    out: Annotated[
        Path | None, typer.Option(help="Where the certificate goes (a new name by default).")
    ] = None,
) -> None:
    """Erase sessions at the provider, in SQL, ClickHouse and the dead letters, and write a certificate.

    Cannot be undone. The certificate (JSON) says what was erased where, and until when Kafka's copies last; it is
    printed and written to --out. Every store is looked at again afterwards: exit code 1 when something is left, or
    the time ran out; run it again then. Needs running services, and ANTHROPIC_API_KEY to look at the provider.
    """
    if bool(session) == bool(user):
        raise typer.BadParameter("say what to erase: --session or --user")
    database, archive = addresses.database(), addresses.archive()
    with failing_clearly("erasing", (*database.secrets, *archive.secrets)):
        found = asyncio.run(_erase(session, user, tenant, yes, timeout))
        path = out or Path(f"erasure-{found['asked_at'].replace(':', '')}.json")
        text = json.dumps(found, indent=2, ensure_ascii=False)
        path.write_text(text + "\n")
    typer.echo(text)
    typer.echo(f"the certificate is in {path}", err=True)
    if not found["complete"]:
        for about in found["sessions"]:
            for what in about["left"]:
                typer.echo(f"left of {about['session_id']}: {what}", err=True)
        raise typer.Exit(INCOMPLETE)


async def _erase(session: str, user: str, tenant: str, yes: bool, timeout: float) -> dict[str, Any]:
    async with every_store() as stores:
        keys = await _keys(stores, session, user, tenant)
        _tell("looking at what there is")
        sessions = await stores.before(keys)
        if not yes:
            _confirm(sessions)
        asked = utcnow()
        topics = await retentions(stores.bootstrap, stores.options)
        await erase_run.ask(stores, sessions)
        await erase_run.wait(stores, sessions, timeout, _tell)
        _tell("looking again")
        await erase_run.look_again(stores, sessions)
        return certificate(sessions, topics, asked, utcnow())


async def _keys(stores: Stores, session: str, user: str, tenant: str) -> list[SessionKey]:
    if session:
        return [(tenant or await stores.owner(session), session)]
    tenant_id = owner(tenant)
    found = await stores.of_user(tenant_id, user)
    if not found:
        raise Impossible(f"user {user} of tenant {tenant_id} has no sessions")
    return [(tenant_id, name) for name in found]


def _confirm(sessions: Sequence[Erased], say: Callable[..., None] = typer.echo) -> None:
    for about in sessions[:SHOWN]:
        events = about.sql_rows.get("gateway_turns", 0)
        say(f"  {about.tenant} {about.session} (user {about.user or 'unknown'}): {events} turns")
    if len(sessions) > SHOWN:
        say(f"  and {len(sessions) - SHOWN} more")
    typer.confirm(f"Erase {len(sessions)} session(s) for ever?", abort=True)


def _tell(text: str) -> None:
    typer.echo(text, err=True)
