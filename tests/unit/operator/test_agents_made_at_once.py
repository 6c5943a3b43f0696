"""Two who make an agent from one file at the same time, in every order of their steps at the provider."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from services.operator.agents.apply import Apply
from services.operator.agents.declared import FILE, Declared
from services.operator.agents.folder import declared
from services.operator.agents.lock import NAME, Lock
from services.operator.agents.plan import Remote, Step, Wishes, steps
from services.operator.failures import Impossible

pytestmark = pytest.mark.unit
MODEL = "claude-sonnet-5-5"
TICK = Callable[[], int]


class Place:
    """The provider's agents. `ids` are given in this order, `clock` says when."""

    def __init__(self, ids: Sequence[str], clock: TICK) -> None:
        self._ids, self._clock = iter(ids), clock
        self.there: dict[str, Remote] = {}

    def make(self, one: Declared, tenant: str) -> Remote:
        id = next(self._ids)
        body: dict[str, Any] = {**one.marked(tenant), "id": id, "created_at": str(self._clock())}
        self.there[id] = Remote("agent", id, 1, body)
        return self.there[id]


class Person:
    """Applies a folder; each step at the provider waits until `go` lets it happen."""

    def __init__(self, place: Place, folder: Path, number: int) -> None:
        self._place = place
        self._turn, self._done = asyncio.Semaphore(0), asyncio.Semaphore(0)
        self.lock = Lock(folder / f"{number}{NAME}", "http://provider")
        self._planned = steps(declared(folder, MODEL), self.lock.entries, [], Wishes())
        self._task = asyncio.create_task(self._run())

    async def go(self) -> None:
        """One step more."""
        self._turn.release()
        await self._done.acquire()

    @property
    def ready(self) -> bool:
        return self._task.done()

    async def _run(self) -> bool:
        """Whether the person was told that it is done."""

        async def applied(one: Declared, found: Remote) -> None:
            """The release of a version is of no interest here."""

        apply = Apply(self, self.lock, "", applied, self.pause)
        try:
            await apply.run(self._planned)
        except Impossible:
            return False
        finally:
            self._done.release()
        return True

    async def told(self) -> bool:
        while not self.ready:
            await self.go()
        return await self._task

    async def pause(self, seconds: float) -> None:
        """As long as the other one takes for a step, or for none: each look waits for leave as it is."""

    async def _step(self) -> None:
        if self._started:
            self._done.release()
        self._started = True
        await self._turn.acquire()

    _started = False

    async def everything(self) -> list[Remote]:
        await self._step()
        return list(self._place.there.values())

    async def create(self, one: Declared, tenant: str) -> Remote:
        await self._step()
        return self._place.make(one, tenant)

    async def update(self, one: Declared, there: Remote, tenant: str) -> Remote:
        raise AssertionError("there is nothing to be updated")

    async def archive_agent(self, id: str) -> None:
        await self._step()
        found = self._place.there[id]
        self._place.there[id] = Remote("agent", id, 1, {**found.body, "archived_at": "now"})


def orders(first: int, second: int) -> Iterator[tuple[int, ...]]:
    """Every order of so many steps of two."""
    if first == 0 or second == 0:
        yield (0,) * first + (1,) * second
        return
    for rest in orders(first - 1, second):
        yield (0, *rest)
    for rest in orders(first, second - 1):
        yield (1, *rest)


@pytest.mark.parametrize("ids", [("agent_1", "agent_2"), ("agent_2", "agent_1")])
@pytest.mark.parametrize("moments", [(1, 1), (1, 2)])
async def test_at_most_one_stays_and_is_whose_maker_was_told_so(
    tmp_path: Path, ids: tuple[str, str], moments: tuple[int, int]
) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents/plain.md").write_text("---\nname: Plain\n---\n")
    stayed = 0
    for number, order in enumerate(orders(4, 4)):
        place = Place(ids, iter(moments).__next__)
        people = [Person(place, tmp_path, 2 * number + who) for who in (0, 1)]
        await asyncio.sleep(0)
        for who in order:
            if not people[who].ready:
                await people[who].go()
        told = [await person.told() for person in people]
        alive = [id for id, one in place.there.items() if not one.archived]
        assert len(alive) <= 1, order
        assert sum(told) == len(alive), order
        for person, done in zip(people, told, strict=True):
            locked = [entry.id for entry in person.lock.entries.values()]
            assert locked == (alive if done else []), order
        stayed += len(alive)
    assert stayed > 0
    if moments == (1, 2):
        assert stayed == number + 1, "of two moments the older one stays, always"


def test_two_of_one_moment_that_both_stayed_are_left_to_a_person(tmp_path: Path) -> None:
    """By an apply that was killed while it waited: whoever is right is told by a lock that is not here."""
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents/plain.md").write_text("---\nname: Plain\n---\n")
    (one,) = declared(tmp_path, MODEL)
    both = [
        Remote("agent", id, 1, {**one.marked(""), "id": id, "created_at": "now"})
        for id in ("agent_1", "agent_2")
    ]
    assert both[0].metadata[FILE] == "./agents/plain.md"
    step: Step
    (step,) = steps([one], {}, both, Wishes(adopt=True))
    assert step.action == "blocked"
    assert "agent_1 and agent_2 were made from this file at the same moment" in step.why
