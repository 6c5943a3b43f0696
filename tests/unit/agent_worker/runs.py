"""A play, run: in quiet, or by workers that die or freeze one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

from tests.unit.agent_worker import virtual_time
from tests.unit.agent_worker.effects import Halt, Tempo
from tests.unit.agent_worker.outcome import Outcome, outcome
from tests.unit.agent_worker.outside import Outside
from tests.unit.agent_worker.plays import PLAYS, pace
from tests.unit.agent_worker.worker import EVEN, Worker, know_tasks

# Longer than leases, lingering and retries last.
THAWED_SECONDS = 5.0


@cache
def quiet(play: str, tempo: Tempo = EVEN) -> tuple[Outcome, tuple[str, ...]]:
    """What comes of a play when nothing goes wrong, and the effects it took."""

    return crashed(play, (), tempo)


def crashed(
    play: str, halts: Sequence[Halt], tempo: Tempo = EVEN
) -> tuple[Outcome, tuple[str, ...]]:
    """What comes of it when the first worker dies at the first halt, the next at the second, and so on; and the
    effects that the last worker took."""

    async def main() -> tuple[Outcome, tuple[str, ...]]:
        know_tasks()
        outside = Outside(pace(play))
        workers = await played(outside, play, halts, tempo)
        return outcome(outside), tuple(workers[-1].effects.done)

    return virtual_time.run(main())


async def played(outside: Outside, play: str, halts: Sequence[Halt], tempo: Tempo) -> list[Worker]:
    """Play it to its end with a worker for each halt and one that stays; answers all of them."""
    client = asyncio.create_task(_to_the_end(outside, play))
    makers = [
        partial(Worker, outside, f"worker-{n}", halt=halt, tempo=tempo)
        for n, halt in enumerate((*halts, None))
    ]
    return await relay(client, makers)


async def relay(client: asyncio.Task[None], makers: Iterable[Callable[[], Worker]]) -> list[Worker]:
    """One worker after the other, each killed where it halts, until the client is done; answers all of them."""
    workers: list[Worker] = []
    for make in makers:
        worker = make()
        workers.append(worker)
        worker.start()
        over = asyncio.create_task(worker.over())
        await asyncio.wait((client, over), return_when=asyncio.FIRST_COMPLETED)
        if client.done():
            over.cancel()
            break
        await over
        await worker.kill()
    await client
    return workers


async def _to_the_end(outside: Outside, play: str) -> None:
    await PLAYS[play](outside)
    await outside.until(lambda: outside.settled, f"the end of {play}")


@dataclass(frozen=True)
class Thawed:
    """A world after a frozen worker was let go on: what the worker did before, and what it did then."""

    outside: Outside
    before: list[str]
    then: list[str]


def zombied(play: str, halt: Halt, tempo: Tempo = EVEN) -> Thawed:
    """The first worker stands still at `halt`, a second one takes over and finishes; then the first goes on."""

    async def main() -> Thawed:
        know_tasks()
        outside = Outside(pace(play))
        client = asyncio.create_task(_to_the_end(outside, play))
        first = Worker(outside, "zombie", halt=replace(halt, how="freeze"), tempo=tempo)
        first.start()
        over = asyncio.create_task(first.over())
        await asyncio.wait((client, over), return_when=asyncio.FIRST_COMPLETED)
        Worker(outside, "successor", tempo=tempo).start()
        await client
        before = len(first.effects.done)
        first.effects.going.set()
        await asyncio.sleep(THAWED_SECONDS)
        await outside.until(lambda: outside.settled, "an end")
        return Thawed(outside, first.effects.done[:before], first.effects.done[before:])

    return virtual_time.run(main())
