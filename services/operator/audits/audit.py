"""`turnstile audit`: checks that everything is recorded, once and as the provider has it."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from services.operator import addresses
from services.operator.archive import ArchiveReader
from services.operator.audits import archived, provider
from services.operator.audits.compare import Patience
from services.operator.audits.completeness import textfile
from services.operator.audits.examine import Examined, Examiner
from services.operator.audits.finding import Finding
from services.operator.audits.inbox import Inbox, opened
from services.operator.audits.mend import mended
from services.operator.audits.orphan_search import orphans
from services.operator.failures import Impossible, failing_clearly
from shared.clock import utcnow
from shared.moment import parse, rfc3339
from shared.orphans import ADOPTABLE
from shared.session.key import SessionKey

CLEAN, FOUND, COULD_NOT_LOOK = 0, 1, 2
PROGRESS_EVERY = 50
_AGO = re.compile(r"(\d{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for; times in seconds."""

    session: str
    tenant: str
    since: datetime | None
    fix: bool
    concurrency: int
    grace: float
    stuck: float
    again: float
    orphan_days: int

    def patience(self, now: datetime) -> Patience:
        return Patience(now, timedelta(seconds=self.grace), timedelta(seconds=self.stuck))


@dataclass(slots=True)
class Report:
    """The result of an audit: its counts and findings."""

    sessions: int = 0
    rows: int = 0
    listed: int = 0
    turns: int = 0
    findings: list[Finding] = field(default_factory=list)

    def add(self, examined: Examined) -> None:
        """Count one session."""
        self.sessions += 1
        self.rows += examined.rows
        self.listed += examined.listed
        self.turns += examined.turns
        self.findings += examined.findings


def audit(
    session: Annotated[str, typer.Option(help="Only this session.")] = "",
    tenant: Annotated[str, typer.Option(help="Only this tenant.")] = "",
    since: Annotated[
        str, typer.Option(help="Only sessions with events since: 2026-11-21T10:00:00Z, 6h, 7d.")
    ] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON, one finding a line, the summary last.")
    ] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Fill the gaps that can be filled.")] = False,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Sessions at a time.")] = 4,
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds a provider event may be unrecorded.")
    ] = 60.0,
    stuck: Annotated[
        float, typer.Option(min=0, help="Seconds a turn or input may take.")
    ] = 1_800.0,
    again: Annotated[
        float, typer.Option(min=0, max=600, help="Seconds until a second look at what was found.")
    ] = 5.0,
    orphan_days: Annotated[
        int, typer.Option(min=0, max=90, help="How far back orphans are looked for; 0: not.")
    ] = 7,
    metrics_file: Annotated[
        Path | None, typer.Option(help="Write Prometheus text there (node_exporter's textfile).")
    ] = None,
) -> None:
    """Compare ClickHouse with the provider's own lists, and the inbox with the turns, session by session.

    Without --fix nothing is changed. With it, events that ClickHouse lacks are inserted from the log, and sessions
    with events that only the provider has are made due: a worker lists and records them.

    Exit codes: 0 clean, 1 findings, 2 it could not look.
    """
    asked = Asked(
        session, tenant, _since(since), fix, concurrency, grace, stuck, again, orphan_days
    )
    places = [addresses.archive(), addresses.database(), addresses.log()[0]]
    secrets = [secret for place in places for secret in place.secrets]
    with failing_clearly("auditing", secrets, code=COULD_NOT_LOOK):
        report = asyncio.run(_audit(asked))
        if metrics_file is not None:
            textfile(metrics_file, report.findings, report.rows, report.listed, report.turns)
    _tell(report, as_json=as_json)
    raise typer.Exit(FOUND if report.findings else CLEAN)


async def _audit(asked: Asked) -> Report:
    report = Report()
    async with AsyncExitStack() as stack:
        inbox = await stack.enter_async_context(opened(addresses.database().url))
        source = await stack.enter_async_context(provider.connected())
        archive = await asyncio.to_thread(ArchiveReader, addresses.archive().url)
        examiner = Examiner(
            archive,
            inbox,
            source,
            clock=utcnow,
            patience=asked.patience,
            again=asked.again,
        )
        async for examined in _all(examiner, _keys(asked, inbox, archive), asked.concurrency):
            report.add(examined)
            if report.sessions % PROGRESS_EVERY == 0:
                found = len(report.findings)
                typer.echo(f"{report.sessions} sessions, {found} findings so far", err=True)
        if asked.session and not report.sessions:
            raise Impossible(f"there is no session {asked.session}")
        if asked.orphan_days:
            report.findings += [orphan async for orphan in _orphans(asked, source, inbox)]
        if asked.fix:
            kafka, options = addresses.log()
            report.findings = await mended(
                report.findings, archive, inbox, (kafka.url, options), utcnow
            )
    return report


async def _keys(asked: Asked, inbox: Inbox, archive: ArchiveReader) -> AsyncIterator[SessionKey]:
    """The sessions to look at, each once: those of the archive, and those of the head rows unless `since` says that
    only the archive's times count."""
    since = rfc3339(asked.since) if asked.since else "1971-01-01T00:00:00Z"
    found = await asyncio.to_thread(archived.sessions, archive, since, asked.tenant, asked.session)
    for key in found:
        yield key
    seen = set(found)
    async for page in _heads(asked, inbox):
        for key in page:
            if key not in seen:
                yield key


async def _heads(asked: Asked, inbox: Inbox) -> AsyncIterator[list[SessionKey]]:
    if asked.session:
        owners = await inbox.owners(asked.session)
        yield [(name, asked.session) for name in owners if asked.tenant in ("", name)]
        return
    async for page in inbox.heads(asked.tenant):
        # Of what has events, the archive told when; what has none, or work to do, has no time of its own.
        yield [
            (head.tenant_id, head.session_id)
            for head in page
            if asked.since is None or head.working or head.last_seq == 0
        ]


async def _all(
    examiner: Examiner, keys: AsyncIterator[SessionKey], concurrency: int
) -> AsyncIterator[Examined]:
    """Every session's outcome, as they come, `concurrency` at a time."""
    running: set[asyncio.Task[Examined]] = set()
    try:
        async for key in keys:
            running.add(asyncio.create_task(examiner.examine(key)))
            if len(running) >= concurrency:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
        for left in asyncio.as_completed(list(running)):
            yield await left
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _orphans(asked: Asked, source: provider.Provider, inbox: Inbox) -> AsyncIterator[Finding]:
    now = utcnow()
    since = now - timedelta(days=asked.orphan_days)
    async for orphan in orphans(
        source,
        inbox,
        now=now,
        since=since,
        at_least=ADOPTABLE,
        tenant=asked.tenant,
        session=asked.session,
    ):
        yield orphan


def _since(text: str) -> datetime | None:
    """A moment, or how long ago it was."""
    if not text:
        return None
    if (ago := _AGO.fullmatch(text)) is not None:
        return utcnow() - timedelta(seconds=int(ago[1]) * _SECONDS[ago[2]])
    try:
        return parse(text)
    except ValueError:
        raise typer.BadParameter(
            f"--since {text!r} is neither a time with an offset nor 90s, 15m, 6h, 7d"
        ) from None


def _tell(report: Report, *, as_json: bool) -> None:
    kinds = Counter(finding.kind for finding in report.findings)
    for finding in report.findings:
        typer.echo(json.dumps(finding.as_json(), ensure_ascii=False) if as_json else finding.line())
    counts = {"sessions": report.sessions, "turns": report.turns, "events": report.rows}
    counts["provider_events"] = report.listed
    if as_json:
        whole = {"kind": "summary", **counts, "findings": dict(sorted(kinds.items()))}
        typer.echo(json.dumps(whole))
        return
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    found = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "clean"
    typer.echo(f"{said}: {found}")
