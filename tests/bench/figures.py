"""Figures out of many samples. Pure."""

from __future__ import annotations

from collections.abc import Iterable


def percentile(samples: Iterable[float], percent: float) -> float:
    """The smallest sample that `percent` of all do not exceed; 0 without samples."""
    ordered = sorted(samples)
    if not ordered:
        return 0.0
    place = max(0, -(-len(ordered) * percent // 100) - 1)
    return ordered[int(place)]


def spread_ms(seconds: Iterable[float]) -> tuple[float, float]:
    """(p50, p99) in milliseconds of samples in seconds."""
    samples = list(seconds)
    return percentile(samples, 50) * 1000, percentile(samples, 99) * 1000


def rounds_of(ours: Iterable[float], bare: Iterable[float], unit: str) -> str:
    """What every round gave, so that a reader sees how noisy the machine was."""
    mine, theirs = (", ".join(f"{value:,.0f}" for value in side) for side in (ours, bare))
    return f"rounds in {unit}: ours {mine}; bare {theirs}"
