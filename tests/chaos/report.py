"""The report of a run: figures, then each thing that was wrong."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from shared.session.caps import CAP_REACHED
from tests.chaos import money
from tests.chaos.evidence import Evidence, Finding, Row
from tests.chaos.judge import KINDS, judge, steering
from tests.chaos.moves import REFUSED
from tests.chaos.recovery import Recovery
from tests.chaos.run import Outcome

_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Report:
    """A run, judged."""

    seed: int
    duration: float
    outcome: Outcome
    findings: Sequence[Finding]

    @property
    def passed(self) -> bool:
        """Nothing wrong, everything came to rest, every strike was recovered from."""
        recovered = all(one.seconds is not None for one in self.outcome.recoveries)
        return not self.findings and not self.outcome.quiet and recovered

    def concerned(self) -> list[Evidence]:
        """What is known of the sessions with which something was wrong."""
        names = {finding.session_id for finding in self.findings}
        return [found for found in self.outcome.evidence if found.session_id in names]

    def as_json(self) -> dict[str, Any]:
        """What `--json` writes: figures, recoveries in seconds, findings."""
        return {
            "seed": self.seed,
            "duration": self.duration,
            "passed": self.passed,
            "figures": self.figures(),
            "quiet": self.outcome.quiet,
            "recoveries": [one.as_json() for one in self.outcome.recoveries],
            "findings": [asdict(one) for one in self.findings],
        }

    def figures(self) -> dict[str, Any]:
        """The counts, and recovery in seconds as p50, p99 and max."""
        outcome = self.outcome
        kinds = Counter(one.kind for one in self.findings)
        rows = [row for found in outcome.evidence for row in found.rows]
        ends = Counter(row.type for row in rows if row.type in _ENDS)
        calm = [one for one in outcome.recoveries if not one.troubled]
        return {
            "turns accepted": sum(len(found.accepted) for found in outcome.evidence),
            **{end.removeprefix("turn."): ends[end] for end in _ENDS},
            **{kind: kinds[kind] for kind in KINDS},
            "refused by a cap": len(
                [row for row in rows if row.type == REFUSED and CAP_REACHED in row.data]
            ),
            "steered, joined": sum(steering(found)[0] for found in outcome.evidence),
            "steered, by themselves": sum(steering(found)[1] for found in outcome.evidence),
            **_lives(rows),
            **money.figures(outcome.money),
            "events archived": len(rows),
            "records repeated on the topic": sum(f.published.repeats for f in outcome.evidence),
            "calls sent again by clients": sum(talk.resent for talk in outcome.talks),
            "provider requests struck": outcome.faults,
            "strikes": len(outcome.recoveries),
            "recovery": spread(_seconds(outcome.recoveries)),
            "recovery, provider in order": spread(_seconds(calm)),
            "from 202 to turn.accepted": spread(outcome.uptakes),
        }

    def text(self) -> str:
        """For a terminal."""
        lines = [f"{name:32} {_shown(value)}" for name, value in self.figures().items()]
        by_part: dict[str, list[Recovery]] = defaultdict(list)
        for one in self.outcome.recoveries:
            by_part[f"  {one.strike.kind} {one.strike.part}"].append(one)
        lines += [
            f"{name:32} {_shown(spread(_seconds(ones)))}" for name, ones in sorted(by_part.items())
        ]
        if self.outcome.quiet:
            lines.append(f"no rest: {self.outcome.quiet}")
        lines += [f"{f.kind}: {f.session_id}: {f.detail}" for f in self.findings[:_SHOWN]]
        if len(self.findings) > _SHOWN:
            lines.append(f"… and {len(self.findings) - _SHOWN} more (--json FILE has all)")
        lines.append(f"seed {self.seed}: {'passed' if self.passed else 'FAILED'}")
        return "\n".join(lines)


_ENDS = ("turn.completed", "turn.interrupted", "turn.refused", "turn.failed")


def report(seed: int, duration: float, outcome: Outcome) -> Report:
    """Judge what was found."""
    findings = [finding for found in outcome.evidence for finding in judge(found)]
    findings += [Finding("sums", "all", detail) for detail in outcome.wrong_sums]
    findings += money.judge_money(outcome.money)
    return Report(seed, duration, outcome, findings)


def _lives(rows: Sequence[Row]) -> dict[str, int]:
    """How often sessions rested, and provider sessions were given up."""
    reasons: Counter[str] = Counter()
    for row in rows:
        if row.type in ("session.archived", "session.rotated"):
            told = msgspec.json.decode(row.data, type=_Reason)
            reasons[f"{row.type.removeprefix('session.')}, {told.reason}"] += 1
        elif row.type == "session.idled" and "idle_since" in row.data:
            reasons["idle"] += 1
    return dict(sorted(reasons.items()))


class _Reason(msgspec.Struct):
    reason: str


def _seconds(recoveries: Sequence[Recovery]) -> list[float]:
    """Infinite for what was not over in time."""
    return [math.inf if one.seconds is None else one.seconds for one in recoveries]


def spread(seconds: Sequence[float]) -> dict[str, Any]:
    """`p50`, `p99` and `max` by nearest rank, and how many there were."""
    took = sorted(seconds)
    if not took:
        return {"count": 0}
    ranks = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    places = {name: took[math.ceil(share * len(took)) - 1] for name, share in ranks.items()}
    return {"count": len(took), **{name: round(value, 2) for name, value in places.items()}}


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {number}" for name, number in value.items())
    return f"{value:,}"
