"""Mends findings: missing rows come from the log, late events through the worker.

Nothing here invents anything: a row is inserted as the log has it, and what only the provider has is recorded by
the worker, which lists a session whenever it takes it up.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from services.operator.archive import ArchiveReader
from services.operator.audits import log
from services.operator.audits.finding import Finding
from services.operator.audits.inbox import Inbox
from shared.clock import Clock
from shared.session.key import SessionKey

# Rows of one insert, and bytes.
MOST_ROWS, MOST_BYTES = 1_000, 16 * 1024 * 1024
# A gap larger than this is no gap but another archive.
LARGEST_GAP = 1_000_000


async def mended(
    findings: Sequence[Finding],
    archive: ArchiveReader,
    inbox: Inbox,
    kafka: tuple[str, Mapping[str, Any]],
    clock: Clock,
) -> list[Finding]:
    """The findings, with what was done about each. Raises what archive, inbox and log raise."""
    inserted = await _fill(findings, archive, kafka)
    woken = {
        key: await inbox.wake(*key, clock().timestamp())
        for key in {_key(f) for f in findings if f.kind == "only_at_provider"}
    }
    return [_judged(finding, inserted, woken) for finding in findings]


async def _fill(
    findings: Sequence[Finding], archive: ArchiveReader, kafka: tuple[str, Mapping[str, Any]]
) -> dict[SessionKey, set[int]]:
    """Insert what the log still has; returns the seqs that were inserted."""
    wanted: dict[SessionKey, set[int]] = defaultdict(set)
    for finding in findings:
        wanted[_key(finding)].update(_seqs(finding))
    wanted = {key: seqs for key, seqs in wanted.items() if seqs}
    inserted: dict[SessionKey, set[int]] = defaultdict(set)
    if not wanted:
        return inserted
    rows: list[bytes] = []
    async for key, seq, value in log.events(kafka[0], kafka[1], wanted):
        rows.append(value)
        inserted[key].add(seq)
        if len(rows) >= MOST_ROWS or sum(map(len, rows)) >= MOST_BYTES:
            await asyncio.to_thread(archive.insert, rows)
            rows = []
    if rows:
        await asyncio.to_thread(archive.insert, rows)
    return inserted


def _judged(
    finding: Finding, inserted: Mapping[SessionKey, set[int]], woken: Mapping[SessionKey, bool]
) -> Finding:
    key = _key(finding)
    if finding.kind == "only_at_provider":
        done = "made due: a worker lists it" if woken[key] else "a worker has it"
        return replace(finding, fixed=done)
    if finding.kind != "missing_in_archive":
        return finding
    seqs = _seqs(finding)
    found = len(inserted.get(key, set()) & seqs)
    if found == len(seqs):
        return replace(finding, fixed="inserted from the log")
    if found:
        return replace(finding, fixed=f"{found} of {len(seqs)} inserted from the log")
    return replace(finding, detail=f"{finding.detail}, nor on the log")


def _seqs(finding: Finding) -> set[int]:
    """The seqs that a gap leaves out; none for other findings."""
    if finding.kind != "missing_in_archive" or finding.seq is None or finding.last_seq is None:
        return set()
    if finding.last_seq - finding.seq >= LARGEST_GAP:
        return set()
    return set(range(finding.seq, finding.last_seq + 1))


def _key(finding: Finding) -> SessionKey:
    return (finding.tenant_id, finding.session_id)
