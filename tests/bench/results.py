"""The result of a leg, and its place in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

HEADINGS = ("leg", "unit", "ours", "bare", "ratio", "target", "ours p50/p99", "bare p50/p99")


@dataclass(frozen=True, slots=True)
class Result:
    """Medians over the rounds. `ours_ms` and `bare_ms` are (p50, p99) in milliseconds.

    `ratio` is ours divided by bare; it meets the target when it is at least that much, or with
    `at_most` at most that much. Without a figure on either side no target is met.
    """

    leg: str
    unit: str
    ours: float
    bare: float
    target: float
    at_most: bool = False
    ours_ms: tuple[float, float] | None = None
    bare_ms: tuple[float, float] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return self.ours / self.bare if self.bare else 0.0

    @property
    def met(self) -> bool:
        if not (self.ours and self.bare):
            return False
        return self.ratio <= self.target if self.at_most else self.ratio >= self.target

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio, "met": self.met}

    def cells(self) -> tuple[str, ...]:
        """The texts of a row, in the order of HEADINGS."""
        sign, verdict = "≤" if self.at_most else "≥", "met" if self.met else "missed"
        return (
            self.leg,
            self.unit,
            _number(self.ours),
            _number(self.bare),
            f"{self.ratio:.2f}",
            f"{sign} {self.target:g} {verdict}",
            _pair(self.ours_ms),
            _pair(self.bare_ms),
        )


def plain(results: Sequence[Result]) -> str:
    """A table for a terminal, the notes below it."""
    rows = [HEADINGS, *(result.cells() for result in results)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(HEADINGS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*lines, *(f"{r.leg}: {note}" for r in results for note in r.notes)])


def markdown(results: Sequence[Result]) -> str:
    """The same as a Markdown table and a list."""
    rows = [HEADINGS, tuple("---" for _ in HEADINGS), *(result.cells() for result in results)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", *(f"- {r.leg}: {note}" for r in results for note in r.notes)])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _pair(pair: tuple[float, float] | None) -> str:
    return f"{pair[0]:.2f} / {pair[1]:.2f} ms" if pair else "-"
