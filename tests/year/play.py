"""A year, played in virtual time from its first user to rest, and judged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.unit.agent_worker import virtual_time
from tests.unit.agent_worker.worker import know_tasks
from tests.year.judge import Judged, judge
from tests.year.sql import StandingLoop
from tests.year.users import DAY, User, caps
from tests.year.world import Place, World

# What is under way at the end of the last day has this long: the answer to a call, a dead worker's lease, rest.
DAYS_TO_REST = 3


@dataclass(frozen=True)
class Options:
    """`visits`: of a user in a year. `kill_after`: effects of a worker until it dies, on average; 0: none dies.
    `rests`: sessions rest, and their provider sessions are archived. `url`: of the database that keeps them, "" for
    memory."""

    users: int = 1000
    days: int = 365
    workers: int = 8
    seed: int = 1
    visits: float = 12.0
    kill_after: int = 500
    rests: bool = True
    url: str = ""


@dataclass(frozen=True)
class Year:
    """A world in which the days are over, its users, how many workers were killed, and who came to no end."""

    world: World
    users: list[User]
    killed: int
    late: int

    def judged(self) -> Judged:
        """What has come of it."""
        found = judge(self.world, self.users, self.killed)
        if not self.late and self.world.at_rest:
            return found
        moving = sorted(self.world.store.moving)[:20]
        return Judged(
            found.figures, [f"no rest: {self.late} users wait; moving: {moving}", *found.wrong]
        )


def play(options: Options, tell: Callable[[str], None] = lambda _: None) -> Year:
    """The same options give the same year; on a database whose answers come in another order, another one. `tell`
    hears how far it is, once each ten days."""
    make = StandingLoop if options.url else virtual_time.VirtualLoop
    return virtual_time.run(_play(options, tell), make)


async def _play(options: Options, tell: Callable[[str], None]) -> Year:
    know_tasks()
    world = World(options.workers, rests=options.rests)
    world.caps.caps = caps(options.users)
    if options.url:
        await world.on(options.url)
    places = [
        Place(world, n, Random(f"{options.seed}:worker:{n}"), options.kill_after)
        for n in range(options.workers)
    ]
    users = [
        User(world, n, Random(f"{options.seed}:user:{n}"), options.days, options.visits)
        for n in range(options.users)
    ]
    run = [asyncio.create_task(place.run()) for place in places]
    lives = [asyncio.create_task(user.live()) for user in users]
    for day in range(options.days + DAYS_TO_REST):
        await asyncio.sleep(DAY)
        for task in (task for task in (*run, *lives) if task.done()):
            task.result()
        if day % 10 == 9:
            tell(_so_far(day + 1, users, places))
    late = sum(not life.done() for life in lives)
    await world.over()
    return Year(world, users, sum(place.killed for place in places), late)


def _so_far(day: int, users: list[User], places: list[Place]) -> str:
    asked, killed = sum(len(user.asked) for user in users), sum(place.killed for place in places)
    return f"day {day}: {asked:,} turns asked, {killed:,} workers killed"
