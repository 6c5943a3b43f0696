"""All interleavings of a world under some rules, breadth first, and what is found on the way.

Safety: a law that breaks ends the search with the shortest way to it. Liveness: the protocol's own steps (no
faults) are a graph that must have no circle, and each of its ends, where nothing is left to happen, must be good.
Then from every state that faults can lead to, every run without further ones ends well, however it is scheduled.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.unit.model.laws import well_ended
from tests.unit.model.outside import outside_steps
from tests.unit.model.rules import Rules, World
from tests.unit.model.things import Broken, State, Step
from tests.unit.model.worker import worker_steps


@dataclass(slots=True)
class Found:
    """What came of it: how many `states` and `steps` between them; `broken`: the law that broke first, with the
    `way` there; `doubled`: for each set of excuses, in how many states a turn's message is at the provider more
    than once; `most` messages that one turn ever had there."""

    states: int = 0
    steps: int = 0
    broken: str = ""
    way: list[str] = field(default_factory=list)
    doubled: dict[tuple[str, ...], int] = field(default_factory=dict)
    most: int = 0


class TooMany(Exception):
    """There are more states than were allowed."""


def next_steps(state: State, rules: Rules, world: World) -> Iterator[tuple[str, Iterator[Step]]]:
    """Everything that may happen next, by who does it. Raises Broken in the middle when one of it breaks a law."""
    yield "", outside_steps(state, rules, world)
    for me in (0, 1):
        yield f"worker {me}: ", worker_steps(state, me, rules, world)


def alike(state: State) -> State:
    """One of the states that differ from this one only in which worker is called 0, and in records on their way
    that the log has already: those agreed with the row when they were said, and rows keep what was said."""
    if state.air:
        news = (tuple(r for r in records if r[0] > state.log) for records in state.air)
        state = state.but(air=tuple(records for records in news if records))
    first, second = state.shells
    lease = state.row.lease
    if (first, lease == 0) >= (second, lease == 1):
        return state
    if lease in (0, 1):
        state = state.but(row=state.row.but(lease=1 - lease))
    return state.but(shells=(second, first))


class Search:
    """One search."""

    def __init__(self, rules: Rules, world: World, most_states: int) -> None:
        self._rules, self._world, self._most_states = rules, world, most_states
        start = State(
            crashes=world.crashes,
            freezes=world.freezes,
            losses=world.losses,
            late=world.late,
            interrupts=world.interrupts,
        )
        self._states = [start]
        self._numbers = {start: 0}
        self._from = array("l", [-1])
        self._names: list[str] = [""]
        self._quiet = array("l")  # ends of the steps that are no faults, state by state
        self._firsts = array("l")  # where those of a state begin
        self.found = Found()

    def run(self) -> Found:
        """Search. Raises TooMany."""
        number = 0
        try:
            while number < len(self._states):
                self._firsts.append(len(self._quiet))
                self._expand(number)
                number += 1
            self._firsts.append(len(self._quiet))
            number = self._circle()
            if number >= 0:
                raise Broken("a run without faults that never ends")
        except Broken as broken:
            self.found.broken = str(broken)
            self.found.way = self._way(number)
        self.found.states = len(self._states)
        return self.found

    def _expand(self, number: int) -> None:
        state = self._states[number]
        self._count(state)
        quiet = 0
        for who, steps in next_steps(state, self._rules, self._world):
            for step in steps:
                self.found.steps += 1
                end = self._number(alike(step.state), number, who, step.name)
                if not step.fault:
                    quiet += 1
                    self._quiet.append(end)
        if not quiet:
            well_ended(state, self._world)

    def _number(self, state: State, parent: int, who: str, name: str) -> int:
        number = self._numbers.setdefault(state, len(self._states))
        if number == len(self._states):
            if number >= self._most_states:
                raise TooMany(f"more than {number} states")
            self._states.append(state)
            self._from.append(parent)
            self._names.append(who + name)
        return number

    def _count(self, state: State) -> None:
        for turn in set(state.messages) - {0}:
            times = state.messages.count(turn)
            self.found.most = max(self.found.most, times)
            if times > 1:
                why = tuple(word.split(":")[0] for known, word in state.excuses if known == turn)
                self.found.doubled[why] = self.found.doubled.get(why, 0) + 1

    def _circle(self) -> int:
        """A state that some run without faults comes to again and again, -1 when there is none."""
        into = array("l", [0]) * len(self._states)
        for end in self._quiet:
            into[end] += 1
        free = [number for number, count in enumerate(into) if not count]
        for number in free:  # grows while it is walked
            for end in self._quiet[self._firsts[number] : self._firsts[number + 1]]:
                into[end] -= 1
                if not into[end]:
                    free.append(end)
        return next((number for number, count in enumerate(into) if count), -1)

    def _way(self, number: int) -> list[str]:
        names: list[str] = []
        while number > 0:
            names.append(self._names[number])
            number = self._from[number]
        return names[::-1]


def explore(rules: Rules, world: World, *, most_states: int = 2_000_000) -> Found:
    """Explore `world` under `rules`. Raises TooMany when it has more states than that."""
    return Search(rules, world, most_states).run()
