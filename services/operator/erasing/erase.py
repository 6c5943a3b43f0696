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
from services.operator.erasing.certificate import Erased, ErasedUser, certificate
from services.operator.erasing.looks import Stores, every_store
from services.operator.erasing.topics import retentions
from services.operator.erasing.vaults import delete_vaults
from services.operator.failures import Impossible, failing_clearly
from services.operator.owner import owner
from shared.clock import utcnow
from shared.session.key import SessionKey

INCOMPLETE = 1
SHOWN = 10


def erase(
    session: Annotated[str, typer.Option(help="This session.")] = "",
    user: Annotated[
        str, typer.Option(help="All sessions of this user, the user's profile and vaults.")
    ] = "",
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
        for about in [*found["sessions"], *([found["user"]] if user else [])]:
            for what in about["left"]:
                whose = about.get("session_id") or f"user {user}"
                typer.echo(f"left of {whose}: {what}", err=True)
        raise typer.Exit(INCOMPLETE)


async def _erase(session: str, user: str, tenant: str, yes: bool, timeout: float) -> dict[str, Any]:
    async with every_store() as stores:
        about = await _user(stores, user, tenant) if user else None
        keys = await _keys(stores, session, about, tenant)
        _tell("looking at what there is")
        sessions = await stores.before(keys)
        if not yes:
            _confirm(sessions, about)
        asked = utcnow()
        topics = await retentions(stores.bootstrap, stores.options)
        if about:  # first: what is opened from now on is told nothing of the user
            await stores.sql.forget(about.tenant, about.user)
        await erase_run.ask(stores, sessions)
        await erase_run.wait(stores, sessions, timeout, _tell)
        if about:  # after the sessions that use them
            await delete_vaults(stores, about)
        _tell("looking again")
        await erase_run.look_again(stores, sessions)
        if about:
            kept = await stores.sql.of_user_itself(about.tenant, about.user)
            about.left += [f"{table}: {count} rows" for table, count in kept.items()]
        return certificate(sessions, topics, asked, utcnow(), about)


async def _user(stores: Stores, user: str, tenant: str) -> ErasedUser:
    """What is kept of the user now."""
    tenant_id = owner(tenant)
    return ErasedUser(tenant_id, user, rows=await stores.sql.of_user_itself(tenant_id, user))


async def _keys(
    stores: Stores, session: str, user: ErasedUser | None, tenant: str
) -> list[SessionKey]:
    if user is None:
        return [(tenant or await stores.owner(session), session)]
    found = await stores.of_user(user.tenant, user.user)
    if not found and not user.rows:
        raise Impossible(
            f"user {user.user} of tenant {user.tenant} has no sessions, profile and vaults"
        )
    return [(user.tenant, name) for name in found]


def _confirm(
    sessions: Sequence[Erased], user: ErasedUser | None, say: Callable[..., None] = typer.echo
) -> None:
    for about in sessions[:SHOWN]:
        events = about.sql_rows.get("gateway_turns", 0)
        say(f"  {about.tenant} {about.session} (user {about.user or 'unknown'}): {events} turns")
    if len(sessions) > SHOWN:
        say(f"  and {len(sessions) - SHOWN} more")
    kept = " and what is kept of the user" if user and user.rows else ""
    typer.confirm(f"Erase {len(sessions)} session(s){kept} for ever?", abort=True)


def _tell(text: str) -> None:
    typer.echo(text, err=True)
