"""`turnstile agents radar`: agents whose models go, or have gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec
import typer

from services.operator import addresses
from services.operator.agents.plan import Remote
from services.operator.agents.provider import Provider, provider
from services.operator.agents.radar import Ending, Use, endings, words
from services.operator.agents.release_rows import releases
from services.operator.failures import Impossible, failing_clearly
from services.operator.printable import in_columns, plain
from shared.clock import utcnow
from shared.session.releases import Release
from shared.settings import ProviderSettings

NONE, SOME, COULD_NOT_LOOK = 0, 1, 2


def radar(
    json_out: Annotated[bool, typer.Option("--json", help="JSON, one object.")] = False,
) -> None:
    """Name the models that are deprecated or retired, the agents that use them, and the days left.

    Looked at are the newest version of each agent, the versions that sessions get, and TURNSTILE_MODEL.

    Exit codes: 0 none is, 1 some are, 2 it could not look (a self-hosted server may have no list of models).
    """
    where = addresses.database()
    with failing_clearly("looking for models that end", where.secrets, code=COULD_NOT_LOOK):
        found = asyncio.run(_looked(where.url))
    if json_out:
        typer.echo(json.dumps({"models": msgspec.to_builtins(found)}))
    elif found:
        lines = [[one.model, words(one), plain(", ".join(one.who))] for one in found]
        typer.echo("\n".join(in_columns([["model", "", "used by"], *lines])))
    else:
        typer.echo("every model in use is active")
    raise typer.Exit(SOME if found else NONE)


async def _looked(url: str) -> list[Ending]:
    known = [one for one, _ in await releases(url)]
    async with provider() as there:
        models = await there.models()
        if models is None:
            raise Impossible("this server has no list of models: see its own documentation")
        newest = [
            one for one in await there.everything() if one.kind == "agent" and not one.archived
        ]
        released = await _released(there, known, newest)
    default = Use(ProviderSettings().turnstile_model, "TURNSTILE_MODEL")
    return endings(models, [*_uses([*newest, *released]), default], utcnow())


async def _released(
    there: Provider, known: Sequence[Release], newest: Sequence[Remote]
) -> list[Remote]:
    """The versions that sessions get and that are not the newest."""
    seen = {(one.id, one.version) for one in newest}
    wanted = {(one.agent_id, version) for one in known for version in (one.pinned, one.canary)}
    live = {one.id for one in newest}
    return [
        await there.agent(id, version)
        for id, version in sorted(wanted - seen)
        if version and id in live
    ]


def _uses(agents: Iterable[Remote]) -> Iterable[Use]:
    for one in agents:
        yield Use(one.body["model"]["id"], f"{one.body['name']} {one.id}@{one.version}")
