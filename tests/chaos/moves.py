"""The moves of a conversation, each a pure function of seed, session and number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

COMPLETED, INTERRUPTED, REFUSED = "turn.completed", "turn.interrupted", "turn.refused"
_ONLY_COMPLETED = frozenset({COMPLETED})


@dataclass(frozen=True, slots=True)
class Said:
    """One turn: its text is nobody else's. `ends`: the types of event it may end with."""

    turn_id: str
    text: str
    on_busy: str = "enqueue"
    ends: frozenset[str] = _ONLY_COMPLETED


@dataclass(frozen=True, slots=True)
class Move:
    """Turns that are said without waiting between them; `interrupt`: then the running one is interrupted.
    The next move comes when all of them have ended."""

    kind: str
    turns: tuple[Said, ...]
    interrupt: bool = False


def move(seed: int, session_id: str, number: int) -> Move:
    """The `number`-th move (from 0 on) of a conversation."""
    dice = Random(f"{seed} {session_id} {number}")
    kinds = [kind for kind, _, _ in _MOVES]
    kind = dice.choices(kinds, [weight for _, weight, _ in _MOVES])[0]
    make = next(make for name, _, make in _MOVES if name == kind)
    return make(_Pen(session_id, number, dice), kind)


class _Pen:
    """Writes the turns of one move."""

    def __init__(self, session_id: str, number: int, dice: Random) -> None:
        self.dice = dice
        self._session_id = session_id
        self._number = number
        self._turns = 0

    def say(
        self, script: str, on_busy: str = "enqueue", ends: frozenset[str] = _ONLY_COMPLETED
    ) -> Said:
        self._turns += 1
        turn_id = f"t{self._number}-{self._turns}"
        pace = round(self.dice.uniform(0.05, 0.25), 2)
        text = f"{self._session_id} {turn_id} [[script: {script} pace={pace}]]"
        return Said(turn_id, text, on_busy, ends)


def _one(script: Callable[[Random], str]) -> Callable[[_Pen, str], Move]:
    return lambda pen, kind: Move(kind, (pen.say(script(pen.dice)),))


def _queue(pen: _Pen, kind: str) -> Move:
    scripts = pen.dice.choices(("reply", "tools rounds=1", "threads children=1"), k=3)
    return Move(kind, tuple(pen.say(script) for script in scripts))


def _reject(pen: _Pen, kind: str) -> Move:
    ends = frozenset({COMPLETED, REFUSED})
    return Move(kind, (pen.say("tools rounds=3"), pen.say("reply", "reject", ends)))


def _barge_in(pen: _Pen, kind: str) -> Move:
    ends = frozenset({COMPLETED, INTERRUPTED})
    return Move(kind, (pen.say("tools rounds=6", ends=ends), pen.say("reply", "interrupt")))


def _interrupt(pen: _Pen, kind: str) -> Move:
    ends = frozenset({COMPLETED, INTERRUPTED})
    return Move(kind, (pen.say("tools rounds=6", ends=ends),), interrupt=True)


def _coalesce(pen: _Pen, kind: str) -> Move:
    return Move(kind, tuple(pen.say("reply", "coalesce") for _ in range(2)))


def _steer(pen: _Pen, kind: str) -> Move:
    """Into the middle of the work, or too late for it: whichever, both complete."""
    worked_on = pen.say(f"tools rounds={pen.dice.randint(2, 6)}")
    return Move(kind, (worked_on, *(pen.say("reply", "steer") for _ in range(2))))


_MOVES: tuple[tuple[str, float, Callable[[_Pen, str], Move]], ...] = (
    ("reply", 3, _one(lambda dice: "reply")),
    ("tools", 4, _one(lambda dice: f"tools rounds={dice.randint(2, 6)} swap={dice.randint(0, 1)}")),
    ("threads", 3, _one(lambda dice: f"threads children={dice.randint(1, 3)}")),
    ("long", 1, _one(lambda dice: f"long events={dice.randint(40, 120)}")),
    ("late", 1, _one(lambda dice: "reply late=1")),
    ("confirm", 2, _one(lambda dice: f"confirm calls={dice.randint(1, 2)}")),
    ("custom tool", 2, _one(lambda dice: f"custom_tool rounds={dice.randint(1, 2)}")),
    ("error retried", 1, _one(lambda dice: "error_retrying")),
    ("queue", 2, _queue),
    ("reject", 1, _reject),
    ("barge in", 2, _barge_in),
    ("interrupt", 2, _interrupt),
    ("coalesce", 2, _coalesce),
    ("steer", 3, _steer),
)
