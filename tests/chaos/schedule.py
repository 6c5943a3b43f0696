"""When which part goes down, and when the provider misbehaves: a pure function of the seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from tests.chaos.troubles import TROUBLES

Kind = Literal["kill", "term", "pause"]
WORKER = "agent-worker"
PARTS = ("gateway", WORKER, "recorder", "clickhouse", "kafka", "postgres")
_KINDS: tuple[tuple[Kind, float], ...] = (("kill", 0.5), ("pause", 0.3), ("term", 0.2))
_FIRST_AT = 4.0  # the load runs by then
_CALM_BEFORE_END = 4.0
_TOGETHER = 0.2  # how often a second part goes down with the first


@dataclass(frozen=True, slots=True)
class Strike:
    """One part goes down `at` seconds after the start: killed (-9), asked to end (SIGTERM, PostgreSQL
    SIGINT), or paused (SIGSTOP, and SIGCONT after `seconds`)."""

    at: float
    part: str
    kind: Kind
    seconds: float = 0.0

    def __str__(self) -> str:
        lasts = f" for {self.seconds:.1f} s" if self.kind == "pause" else ""
        return f"{self.kind} {self.part}{lasts}"


@dataclass(frozen=True, slots=True)
class Trouble:
    """For `seconds` from `at` on the provider follows fault rules (as `/_sim/faults` takes them)."""

    at: float
    seconds: float
    name: str
    rules: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Both lists are in order of time and end before the duration does."""

    strikes: tuple[Strike, ...]
    troubles: tuple[Trouble, ...]


def schedule(
    seed: int, duration: float, workers: int, parts: tuple[str, ...] = PARTS, troubled: bool = True
) -> Schedule:
    """The same arguments give the same schedule; a longer one begins like a shorter one.

    Every part goes down once before any goes down a second time. Not `troubled`: the provider is in order.
    """
    end = duration - _CALM_BEFORE_END
    strikes = tuple(_until(end, _strikes(Random(f"strikes {seed}"), workers, parts)))
    troubles = tuple(_until(end, _troubles(Random(f"troubles {seed}")))) if troubled else ()
    return Schedule(strikes, troubles)


def _until(end: float, things: Iterator[Any]) -> Iterator[Any]:
    for thing in things:
        if thing.at + thing.seconds > end:
            return
        yield thing


def _strikes(dice: Random, workers: int, of: tuple[str, ...]) -> Iterator[Strike]:
    parts = _deck(dice, of)
    at = _FIRST_AT
    while True:
        first = _strike(dice, at, next(parts), workers)
        yield first
        together = dice.random() < _TOGETHER
        if together:
            at += dice.uniform(0.0, 1.0)
            second = _strike(dice, at, next(parts), workers)
            yield second
            at += second.seconds
        at += first.seconds + dice.uniform(5.0, 12.0)


def _strike(dice: Random, at: float, part: str, workers: int) -> Strike:
    kind = dice.choices([kind for kind, _ in _KINDS], [weight for _, weight in _KINDS])[0]
    number = dice.randrange(workers) + 1
    seconds = dice.uniform(2.0, 8.0)
    name = f"{WORKER}-{number}" if part == WORKER else part
    return Strike(round(at, 3), name, kind, round(seconds, 3) if kind == "pause" else 0.0)


def _troubles(dice: Random) -> Iterator[Trouble]:
    names = _deck(dice, tuple(TROUBLES))
    at = _FIRST_AT
    while True:
        seconds = dice.uniform(3.0, 8.0)
        name = next(names)
        yield Trouble(round(at, 3), round(seconds, 3), name, TROUBLES[name])
        at += seconds + dice.uniform(4.0, 10.0)


def _deck(dice: Random, cards: tuple[str, ...]) -> Iterator[str]:
    """All cards in a random order, then all again in another."""
    while True:
        yield from dice.sample(cards, len(cards))
