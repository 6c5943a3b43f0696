"""Recorded sessions asked again: planned, driven to the end, and read back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence

from services.operator import addresses
from services.operator.archive import ArchiveReader
from services.operator.failures import Impossible
from services.operator.inputs import asking
from services.operator.past import past
from services.operator.reruns.bounds import Pace, RunBudget
from services.operator.reruns.compare import Pair, pairs
from services.operator.reruns.drive import Ended, Rerun, Wanted
from services.operator.reruns.plan import Plan, plan


def plans(archive: ArchiveReader, tenant: str, run: str, names: Sequence[str]) -> list[Plan]:
    """What to send of each session. Raises Impossible where there is nothing."""
    planned = []
    for session in names:
        told = past(archive.events(tenant, session))
        if told.state is None:
            raise Impossible(archive.why_nothing(tenant, session))
        if told.turns():
            planned.append(plan(run, told))
    if not planned:
        raise Impossible(f"no session of tenant {tenant} with turns was chosen")
    return planned


async def driven(
    wanted: Wanted,
    archive: ArchiveReader,
    plans: Sequence[Plan],
    bounds: tuple[Pace, RunBudget],
    say: Callable[[str], None],
) -> Ended:
    """Ctrl-C ends it when the turns under way have ended, a second one at once."""
    run_budget = bounds[1]
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    def stop() -> None:
        if stopping.is_set():
            task.cancel()
        stopping.set()
        say("stopping when the turns under way have ended; Ctrl-C again to leave at once")

    loop.add_signal_handler(signal.SIGINT, stop)
    try:
        where, options = addresses.log()
        async with asking(where.url, options) as ask:
            return await Rerun(wanted, archive, ask, bounds, say).run(plans, stopping)
    except asyncio.CancelledError:
        return "stopped"
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        say(f"${run_budget.spent:.4f} of ${run_budget.limit:.2f} spent")


def compared(archive: ArchiveReader, one: Plan) -> list[Pair]:
    """The turns of a session beside those of its shadow that have ended."""
    again = past(archive.events(one.tenant, one.shadow)).turns()
    return pairs(one.session, one.shadow, one.turns, again)
