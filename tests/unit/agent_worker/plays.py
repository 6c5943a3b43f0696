"""What clients do in the crash tests: each play asks, waits for what the log says, and asks again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from services.agent_worker.ports import ProviderFailure
from shared.session.events import Event, TurnRequiresAction
from tests.builders import (
    answering,
    archiving,
    confirming,
    interrupting,
    opening,
    turn,
)
from tests.unit.agent_worker.outside import Outside

Play = Callable[[Outside], Awaitable[None]]


async def plain(outside: Outside) -> None:
    outside.ask(turn("t1", "good morning"))


async def tools(outside: Outside) -> None:
    outside.ask(opening(title="Trip"), turn("t1", "look [[script: tools]]"))


async def confirm(outside: Outside) -> None:
    outside.ask(turn("t1", "may I? [[script: confirm]]"))
    outside.ask(confirming(_call(await outside.said("turn.requires_action")), 5))


async def custom_tool(outside: Outside) -> None:
    outside.ask(turn("t1", "what is it? [[script: custom_tool]]"))
    outside.ask(answering(_call(await outside.said("turn.requires_action")), 5))


async def own_tool(outside: Outside) -> None:
    outside.ask(turn("t1", "what time is it? [[script: own_tool]]"))


async def overloaded(outside: Outside) -> None:
    for _ in range(2):
        outside.provider.refusals.append(ProviderFailure("overloaded_error", "529: busy"))
    outside.ask(turn("t1", "try again"))


async def threads(outside: Outside) -> None:
    outside.ask(turn("t1", "all of you [[script: threads]]"))


async def queued(outside: Outside) -> None:
    outside.ask(turn("t1", "one"), turn("t2", "two"), turn("t1", "one, in other words"))
    outside.asked.pop()  # the first body wins


async def interrupt(outside: Outside) -> None:
    """One turn is interrupted while it is worked on, the one behind it is not."""
    outside.ask(turn("t1", "hold on"), turn("t2", "and then"))
    await outside.said("user.message")
    outside.ask(interrupting(3))


async def interrupt_asking(outside: Outside) -> None:
    """One that waits for an answer is interrupted, and the answer comes too late."""
    outside.ask(turn("t1", "may I? [[script: confirm]]"))
    call = _call(await outside.said("turn.requires_action"))
    outside.ask(interrupting(3))
    await outside.said("turn.interrupted")
    outside.ask(confirming(call, 5), turn("t2", "never mind"))


async def coalesced(outside: Outside) -> None:
    """Three that go out together, and one behind them that does not."""
    outside.ask(
        *(turn(f"t{n}", f"part {n}", on_busy="coalesce") for n in (1, 2, 3)), turn("t4", "alone")
    )


async def slow(outside: Outside) -> None:
    """The agent is at work for longer than leases last."""
    outside.ask(turn("t1", "hold on"))
    await outside.said("user.message")
    began = outside.clock().timestamp()
    await outside.until(lambda: outside.clock().timestamp() - began > 2, "two seconds")
    for session in outside.provider.sessions.values():
        session.release()


async def archive(outside: Outside) -> None:
    outside.ask(turn("t1", "last words"))
    await outside.said("turn.completed")
    outside.ask(archiving(9))


def _call(asked: Event) -> str:
    """The tool call that waits."""
    return msgspec.json.decode(asked.data, type=TurnRequiresAction).pending_actions[0].tool_use_id


PLAYS: dict[str, Play] = {
    play.__name__: play
    for play in (
        plain,
        tools,
        confirm,
        custom_tool,
        own_tool,
        overloaded,
        threads,
        queued,
        interrupt,
        interrupt_asking,
        coalesced,
        slow,
        archive,
    )
}
