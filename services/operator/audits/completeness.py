"""Completeness as Prometheus text, for node_exporter's textfile collector."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from services.operator.audits.finding import KINDS, Finding
from shared import metrics
from shared.clock import utcnow

NAMES = (
    "turnstile_audit_findings",
    "turnstile_audit_looked_at",
    "turnstile_audit_completeness_ratio",
    "turnstile_audit_finished_seconds",
)


def textfile(path: Path, findings: Sequence[Finding], rows: int, listed: int, turns: int) -> None:
    """Write the figures of one audit to `path`, replaced as a whole. Raises OSError."""
    kinds = Counter(finding.kind for finding in findings)
    for kind in KINDS:
        metrics.set_gauge("turnstile_audit_findings", kinds[kind], kind=kind)
    for what, count in (("events", rows), ("provider_events", listed), ("turns", turns)):
        metrics.set_gauge("turnstile_audit_looked_at", count, what=what)
    gaps = sum(
        finding.last_seq - finding.seq + 1
        for finding in findings
        if finding.kind == "missing_in_archive" and finding.seq and finding.last_seq
    )
    whole = {
        "provider_events": (kinds["only_at_provider"], listed),
        "events": (gaps, rows + gaps),
        "turns": (kinds["turn_lost"] + kinds["turn_never_ended"], turns + kinds["turn_lost"]),
    }
    for what, (missing, of) in whole.items():
        share = 1 - missing / of if of else 1.0
        metrics.set_gauge("turnstile_audit_completeness_ratio", share, what=what)
    outcome = "findings" if findings else "clean"
    metrics.set_gauge("turnstile_audit_finished_seconds", utcnow().timestamp(), outcome=outcome)
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    beside.write_bytes(metrics.render(names=NAMES))
    beside.replace(path)
