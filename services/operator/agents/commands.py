"""`turnstile agents`: agents and environments from a folder of files, and which version sessions get."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from msgspec import Struct

from services.operator import addresses
from services.operator.agents import release
from services.operator.agents.apply import Apply
from services.operator.agents.changes import changed_lines, warnings
from services.operator.agents.declared import Declared
from services.operator.agents.folder import declared, left_alone
from services.operator.agents.gate import Gate, passed
from services.operator.agents.links import Linked, resolved
from services.operator.agents.lock import NAME, Lock, alone
from services.operator.agents.plan import WRITES, Remote, Step, Wishes, gone, steps
from services.operator.agents.provider import Provider, provider
from services.operator.agents.radar_command import radar
from services.operator.agents.release_rows import bind, change, release_of, releases
from services.operator.agents.watch import watch
from services.operator.archive import ArchiveReader
from services.operator.failures import Impossible, failing_clearly
from services.operator.owner import owner
from services.operator.printable import in_columns, plain
from shared.clock import utcnow
from shared.session.releases import Release
from shared.settings import ProviderSettings

SAME, DIFFERENT, COULD_NOT_LOOK = 0, 1, 2
MARK = {"create": "+", "update": "~", "record": "=", "unchanged": " ", "blocked": "!"}
Folder = Annotated[
    Path, typer.Argument(help="Where agents/ and environments/ are.", metavar="DIR", exists=True, file_okay=False)
]  # fmt: skip
LockFile = Annotated[
    Path | None, typer.Option("--lock", help="The lock file; else DIR/claude-lock.json.")
]
Whose = Annotated[
    str, typer.Option("--tenant", help="Only this tenant's sessions may use it; else everybody's.")
]
Adopt = Annotated[
    bool, typer.Option(help="Take over what has the same name there and is not in the lock.")
]
Force = Annotated[
    bool, typer.Option(help="Overwrite what was changed there, make anew what is gone.")
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, one object.")]
ReleaseName = Annotated[str, typer.Argument(help="The agent's name: its file's.", metavar="NAME")]


def agents() -> typer.Typer:
    """The `agents` commands."""
    cli = typer.Typer(
        help="Agents and environments from a folder of files, and which version of an agent sessions get.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    for command in (plan, apply, diff, list_releases, pin, rollback):
        cli.command(command.__name__.partition("_")[0])(command)
    cli.command("watch")(watch)
    cli.command("radar")(radar)
    return cli


def plan(
    folder: Folder = Path(),
    lock_file: LockFile = None,
    tenant: Whose = "",
    adopt: Adopt = False,
    force: Force = False,
    json_out: AsJson = False,
) -> None:
    """Say what `apply` would do. Changes nothing.

    Exit codes: 0 nothing to do, 1 there is, or it can't be done as it is, 2 it could not look.
    """
    wishes = Wishes(tenant, adopt, force)
    with failing_clearly(f"planning {folder}", code=COULD_NOT_LOOK):
        found, lines = asyncio.run(_planned(folder, lock_file, wishes))
    _show(found, lines, json_out)
    raise typer.Exit(DIFFERENT if any(step.action != "unchanged" for step in found) else SAME)


def apply(
    folder: Folder = Path(),
    lock_file: LockFile = None,
    tenant: Whose = "",
    canary: Annotated[
        int,
        typer.Option(min=0, max=100, help="Percent of sessions that get changed agents; 0: all."),
    ] = 0,
    gate: Annotated[
        list[str] | None,
        typer.Option(
            help="A recorded session that is asked again of a new version first; may be given again."
        ),
    ] = None,
    gate_tenant: Annotated[
        str, typer.Option(help="Whose sessions those are; --tenant, or the only one there is.")
    ] = "",
    gate_usd: Annotated[
        float, typer.Option(min=0.01, help="Dollars at most for the gate of one agent.")
    ] = 10.0,
    adopt: Adopt = False,
    force: Force = False,
    json_out: AsJson = False,
) -> None:
    """Bring the provider to what the folder says, and put the new versions forward for sessions.

    All files are checked before the first write, and nothing is written when one can't be applied. What was applied
    is noted in the lock file at once: commit it. An apply that was interrupted is simply run again.

    With --gate a new version of an agent is put forward only if recorded turns end as they did and cost at most
    half as much again. This calls the provider and costs money: see `turnstile rerun`.
    """
    where = addresses.database()
    wishes = Wishes(tenant, adopt, force)
    with failing_clearly(f"applying {folder}", where.secrets + addresses.archive().secrets):
        asked = Gate(tuple(gate), owner(gate_tenant or tenant), gate_usd) if gate else None
        releasing = Releasing(where.url, tenant, canary, asked)
        found, lines = asyncio.run(_applied(folder, lock_file, wishes, releasing))
    _show(found, lines, json_out)


def diff(folder: Folder = Path(), lock_file: LockFile = None, tenant: Whose = "") -> None:
    """Show how each file differs from the version that sessions get (where none is released: the newest).

    Exit codes: 0 the same, 1 they differ, 2 it could not look.
    """
    where = addresses.database()
    with failing_clearly(f"comparing {folder}", where.secrets, code=COULD_NOT_LOOK):
        text = asyncio.run(_differing(folder, lock_file, tenant, where.url))
    typer.echo(plain(text) if text else "no difference")
    raise typer.Exit(DIFFERENT if text else SAME)


def list_releases(json_out: AsJson = False) -> None:
    """List agents by name: whose, its id, which version sessions get, and why."""
    where = addresses.database()
    with failing_clearly(f"reading releases from {where.shown}", where.secrets):
        found = asyncio.run(releases(where.url))
    if json_out:
        told = [{**msgspec.structs.asdict(one), "why": why} for one, why in found]
        typer.echo(json.dumps({"agents": told}))
    elif found:
        cells = [
            [one.name, one.tenant_id or "everybody", one.agent_id, release.told(one), why]
            for one, why in found
        ]
        header = ["name", "whose", "agent", "sessions get", "because"]
        typer.echo("\n".join(in_columns([header, *([*map(plain, line)] for line in cells)])))
    else:
        typer.echo("no agents: `turnstile agents apply DIR` makes some")


def pin(
    name: ReleaseName,
    version: Annotated[int, typer.Argument(min=1, help="The version sessions get.")],
    tenant: Whose = "",
    canary: Annotated[
        int, typer.Option(min=0, max=100, help="Only so many percent of sessions; 0: all.")
    ] = 0,
) -> None:
    """Give new provider sessions a version of an agent; those that are open keep theirs."""

    def to(old: Release) -> Release:
        return release.with_canary(old, version, canary) if canary else release.pinned(old, version)

    where = addresses.database()
    with failing_clearly(f"pinning {name}", where.secrets):
        made = asyncio.run(_pinned(where.url, tenant, name, version, to))
    typer.echo(f"{name}: {release.told(made)}")


def rollback(name: ReleaseName, tenant: Whose = "") -> None:
    """End the canary of an agent; without one, go back to the version before. What is open keeps its own."""
    where = addresses.database()
    with failing_clearly(f"rolling {name} back", where.secrets):
        made = asyncio.run(
            _changed(where.url, tenant, name, release.rolled_back, "rolled back by hand")
        )
    typer.echo(f"{name}: {release.told(made)}")


# ---- what they do ------------------------------------------------------------------------------------------------


async def _planned(
    folder: Path, lock_file: Path | None, wishes: Wishes
) -> tuple[list[Step], list[str]]:
    """The steps, and what a reader should know besides."""
    files = _read(folder)
    async with provider() as there:
        lock = Lock(lock_file or folder / NAME, there.base_url)
        found = steps(files, lock.entries, await there.everything(), wishes)
        return found, [*_notes(folder, files, lock), *await warnings(there, found, _today())]


class Releasing(Struct, frozen=True):
    """How a version that was applied is put forward: in which database, for whom, to which share, behind which
    gate."""

    url: str
    tenant: str
    share: int
    gate: Gate | None


async def _applied(
    folder: Path, lock_file: Path | None, wishes: Wishes, releasing: Releasing
) -> tuple[list[Step], list[str]]:
    files, told = _read(folder), []

    async def applied(one: Declared, there: Remote) -> None:
        if one.kind == "agent":
            told.extend(await _put_forward(releasing, one.name, there))

    with alone(folder):
        async with provider() as there:
            lock = Lock(lock_file or folder / NAME, there.base_url)
            found = steps(files, lock.entries, await there.everything(), wishes)
            lines = [*_notes(folder, files, lock), *await warnings(there, found, _today())]
            if any(step.action == "blocked" for step in found):
                _show(found, lines, json_out=False)
            await Apply(there, lock, wishes.tenant, applied).run(found)
    return found, lines + told


async def _put_forward(releasing: Releasing, name: str, there: Remote) -> list[str]:
    url, tenant = releasing.url, releasing.tenant

    def to(old: Release | None) -> Release:
        return release.put_forward(old, tenant, name, there.id, there.version, releasing.share)

    if tenant:
        await bind(url, tenant, there.id)
    told = []
    old = await release_of(url, tenant, name)
    new = old is not None and old.agent_id == there.id and old.released != there.version
    if new and releasing.gate is not None:
        archive = ArchiveReader(addresses.archive().url)
        told.append(
            await passed(releasing.gate, archive, name, there, partial(typer.echo, err=True))
        )
    made = await change(url, tenant, name, to, f"version {there.version} applied")
    behind = "" if there.version in (made.pinned, made.canary) else f"; {there.version} is not used"
    return [*told, f"{name}: sessions get {release.told(made)}{behind}"]


async def _pinned(url: str, tenant: str, name: str, version: int, to: Any) -> Release:
    old = await _known(url, tenant, name)
    async with provider() as there:
        await there.agent(
            old.agent_id, version
        )  # one that is not there is refused here, and not in a turn
    return await _changed(url, tenant, name, to, f"version {version} pinned by hand")


async def _changed(url: str, tenant: str, name: str, to: Any, why: str) -> Release:
    await _known(url, tenant, name)
    return await change(url, tenant, name, to, why)


async def _known(url: str, tenant: str, name: str) -> Release:
    old = await release_of(url, tenant, name)
    if old is None:
        whose = f"tenant {tenant} has" if tenant else "there is"
        raise Impossible(
            f"{whose} no agent {name!r}: see `turnstile agents list`, or apply its file"
        )
    return old


async def _differing(folder: Path, lock_file: Path | None, tenant: str, url: str) -> str:
    files = _read(folder)
    async with provider() as there:
        lock = Lock(lock_file or folder / NAME, there.base_url)
        known = {one.id: one for one in await there.everything()}
        applied = {file: Linked(entry.id, entry.version) for file, entry in lock.entries.items()}
        shown = []
        for one in (resolved(one, applied) for one in files):
            entry = lock.entries.get(one.file)
            found = known.get(entry.id) if entry else None
            if found is not None and one.kind == "agent":
                found = await _running(there, found, await release_of(url, tenant, one.name))
            shown.append(changed_lines(one, found))
    return "\n".join(filter(None, shown))


async def _running(there: Provider, newest: Remote, known: Release | None) -> Remote:
    if known is None or known.agent_id != newest.id or known.pinned == newest.version:
        return newest
    return await there.agent(newest.id, known.pinned)


def _read(folder: Path) -> list[Declared]:
    return declared(folder, ProviderSettings().turnstile_model)


def _notes(folder: Path, files: Sequence[Declared], lock: Lock) -> list[str]:
    notes = [f"{one.file}: {note}" for one in files for note in one.notes]
    notes += [f"{file} is gone; what it stood for stays" for file in gone(files, lock.entries)]
    return notes + [f"{name}/ is left alone: `ant apply` does it" for name in left_alone(folder)]


def _today() -> str:
    return utcnow().date().isoformat()


def _show(found: Sequence[Step], lines: Sequence[str], json_out: bool) -> None:
    if json_out:
        typer.echo(json.dumps({"files": [_as_json(step) for step in found], "notes": list(lines)}))
        return
    cells = [
        [MARK[step.action], step.declared.file, step.action, step.remote.id if step.remote else "", _why(step)]
        for step in found
    ]  # fmt: skip
    typer.echo("\n".join(in_columns(cells)))
    for line in lines:
        typer.echo(plain(line))
    count = sum(step.action in WRITES for step in found)
    typer.echo(f"{count} of {len(found)} to apply" if count else f"{len(found)} files as applied")


def _why(step: Step) -> str:
    fields = f"({', '.join(step.changes)})" if step.action == "update" and step.changes else ""
    return plain(" ".join(filter(None, (step.why, fields))))


def _as_json(step: Step) -> dict[str, Any]:
    return {
        "file": step.declared.file,
        "action": step.action,
        "id": step.remote.id if step.remote else None,
        "version": step.remote.version if step.remote else None,
        "changes": list(step.changes),
        "why": step.why,
    }
