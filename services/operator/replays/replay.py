"""`turnstile replay`: what was said in a session, read from the archive."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable
from typing import Annotated

import typer

from services.operator import addresses
from services.operator.archive import ArchiveReader
from services.operator.failures import Impossible, failing_clearly
from services.operator.line import as_json, line, pause
from services.operator.owner import Tenant, owner
from services.operator.replays.keys import HINT, Keys, Left, listening
from services.operator.replays.only_archive import speaking_to_the_archive_only
from services.operator.replays.story import Story
from shared.session.events import Event


def replay(
    session: Annotated[str, typer.Argument(help="The session's id (ses_…).")],
    tenant: Tenant = "",
    first: Annotated[int, typer.Option("--from", min=1, help="The first seq.")] = 1,
    last: Annotated[int | None, typer.Option("--to", min=1, help="The last seq.")] = None,
    speed: Annotated[
        float, typer.Option(min=0, help="1: as recorded, 10: ten times faster, 0: at once.")
    ] = 0,
    every: Annotated[bool, typer.Option("--every", help="Every event, one a line.")] = False,
    whole: Annotated[bool, typer.Option("--whole", help="Long texts to their end.")] = False,
    json_lines: Annotated[bool, typer.Option("--json", help="JSON, one event a line.")] = False,
) -> None:
    """Tell a session from ClickHouse: its turns, messages, tools and costs. Never calls the provider.

    At a terminal, space or enter pauses and goes on, n steps to the next event, q leaves.
    """
    where = addresses.archive()
    with (
        failing_clearly(f"replaying {session} from {where.shown}", where.secrets),
        speaking_to_the_archive_only(where.url),
        listening() as keys,
    ):
        tenant_id = owner(tenant)
        archive = ArchiveReader(where.url)
        events = archive.events(tenant_id, session, first, last)
        told = as_json if json_lines else line if every else _story(whole)
        if speed and not json_lines:
            typer.echo(HINT, err=True)
        try:
            seen = _play(events, told, speed, keys)
        except Left:
            return
        except (
            BrokenPipeError
        ):  # `| head` has seen enough; what is left in the buffer is for nobody
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        if not seen:
            raise Impossible(archive.why_nothing(tenant_id, session))


def _play(events: Iterable[Event], told: Callable[[Event], str], speed: float, keys: Keys) -> int:
    """Print each event that says something, after its pause; how many events there were."""
    before, seen = "", 0
    for event in events:
        seen += 1
        if text := told(event):
            keys.wait(pause(before, event.at, speed))
            typer.echo(text)
            before = max(before, event.at)
    return seen


def _story(whole: bool) -> Callable[[Event], str]:
    return Story(min(140, shutil.get_terminal_size((100, 24)).columns), whole).tell
