"""`turnstile state`: a session as it was when some event had been recorded."""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec
import typer

from services.operator import addresses
from services.operator.archive import ArchiveReader
from services.operator.failures import Impossible, failing_clearly
from services.operator.owner import Tenant, owner
from services.operator.past import Past, past
from services.operator.printable import short
from services.operator.replays.only_archive import speaking_to_the_archive_only

WIDTH = 100


def state(
    session: Annotated[str, typer.Argument(help="The session's id (ses_…).")],
    tenant: Tenant = "",
    at_seq: Annotated[
        int | None, typer.Option(min=1, help="After this event; the newest one when left out.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON, the fields of the HTTP API.")
    ] = False,
) -> None:
    """Show a session as it was at an event, folded from its recorded events. Never calls the provider."""
    where = addresses.archive()
    with (
        failing_clearly(f"reading {session} from {where.shown}", where.secrets),
        speaking_to_the_archive_only(where.url),
    ):
        told = past_at(ArchiveReader(where.url), owner(tenant), session, at_seq)
        fields = described(told)
    typer.echo(json.dumps(fields, ensure_ascii=False) if as_json else table(fields))


def past_at(archive: ArchiveReader, tenant: str, session: str, seq: int | None) -> Past:
    """The session after event `seq` (None: the newest). Raises Impossible when it has no such event."""
    told = past(archive.events(tenant, session, 1, seq))
    if told.state is None:
        raise Impossible(archive.why_nothing(tenant, session))
    if seq is not None and told.state.last_seq != seq:
        raise Impossible(f"{session} has {told.state.last_seq} events there; there is no seq {seq}")
    return told


def described(told: Past) -> dict[str, Any]:
    """The session as GET /v1/sessions/{id}?at_seq= names its fields, and the turns behind the open one."""
    known = told.state
    assert known is not None
    return {
        "session_id": known.session_id,
        "tenant_id": known.tenant_id,
        "user_id": known.user_id,
        "status": known.public_status,
        "title": known.title,
        "metadata": known.metadata,
        "agent": known.agent,
        "mode": known.mode,
        "budget_usd": known.budget_usd,
        "vault_ids": known.vault_ids,
        "resources": msgspec.to_builtins(list(known.resources)),
        "last_seq": known.last_seq,
        "open_turn": known.open_turn,
        "pending_actions": msgspec.json.decode(msgspec.json.encode(known.pending)),
        "usage": msgspec.to_builtins(known.usage),
        "cost_usd": known.cost_usd,
        "billed_usd": known.billed_usd,
        "waiting": [queued.turn.turn_id for queued in known.queue],
        "provider_session_id": known.provider_session_id,
        "turns": {one.turn_id: one.turn.status for one in told.turns()},
    }


def table(fields: dict[str, Any]) -> str:
    """One field a line, those without a value left out."""
    lines = []
    for name, value in fields.items():
        if value in (None, [], {}, ""):
            continue
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        lines.append(f"{name:<20} {short(text, WIDTH)}")
    return "\n".join(lines)
