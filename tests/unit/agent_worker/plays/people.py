"""Turns that wait for people, or for tools: allowed, denied, answered in part, twice, too late, or not at all."""

from __future__ import annotations

from tests.builders import answering, confirming, turn
from tests.unit.agent_worker.outside import Outside
from tests.unit.agent_worker.plays.asking import calls

CONFIRM, TWO = "may I? [[script: confirm]]", "may I, twice? [[script: confirm_two]]"


async def confirm(outside: Outside) -> None:
    outside.ask(turn("t1", CONFIRM))
    (call,) = await calls(outside)
    outside.ask(confirming(call, 5))


async def confirm_denied(outside: Outside) -> None:
    outside.ask(turn("t1", CONFIRM))
    (call,) = await calls(outside)
    outside.ask(confirming(call, 5, "deny"))


async def confirm_partly(outside: Outside) -> None:
    """One of two calls is answered, the other one when the session has been let go of."""
    outside.ask(turn("t1", TWO))
    first, second = await calls(outside)
    outside.ask(confirming(second, 5))
    await outside.said("user.tool_confirmation")
    await outside.until(lambda: outside.settled, "a rest")
    outside.ask(confirming(first, 6, "deny"))


async def confirm_both(outside: Outside) -> None:
    """Two calls are answered at the same time."""
    outside.ask(turn("t1", TWO))
    first, second = await calls(outside)
    outside.ask(confirming(first, 5), confirming(second, 6))


async def confirm_twice(outside: Outside) -> None:
    """The first answer counts."""
    outside.ask(turn("t1", CONFIRM))
    (call,) = await calls(outside)
    outside.ask(confirming(call, 5), confirming(call, 6, "deny"))


async def confirm_late(outside: Outside) -> None:
    """An answer that comes after the end is a dead letter."""
    outside.ask(turn("t1", CONFIRM))
    (call,) = await calls(outside)
    outside.ask(confirming(call, 5))
    await outside.said("turn.completed")
    outside.ask(confirming(call, 60))


async def custom_tool(outside: Outside) -> None:
    outside.ask(turn("t1", "what is it? [[script: custom_tool]]"))
    (call,) = await calls(outside)
    outside.ask(answering(call, 5))


async def custom_tool_twice(outside: Outside) -> None:
    outside.ask(turn("t1", "what is it? [[script: custom_tool]]"))
    (call,) = await calls(outside)
    outside.ask(answering(call, 5), answering(call, 6, "43"))


async def both_kinds(outside: Outside) -> None:
    """A permission and a custom tool's result, the other way round than they were asked for."""
    outside.ask(turn("t1", "may I, and what is it? [[script: ask_both]]"))
    permission, tool = await calls(outside)
    outside.ask(answering(tool, 5))
    await outside.said("user.custom_tool_result")
    outside.ask(confirming(permission, 6))


async def own_tool(outside: Outside) -> None:
    outside.ask(turn("t1", "what time is it? [[script: own_tool]]"))


async def own_tool_hangs(outside: Outside) -> None:
    """A tool of the worker that takes too long: the agent gets an error and goes on."""
    outside.clock_seconds = 60.0
    outside.ask(turn("t1", "what time is it? [[script: own_tool]]"))


async def unanswered(outside: Outside) -> None:
    """Nobody answers in time: it is denied."""
    outside.ask(turn("t1", CONFIRM))
    await outside.said("turn.completed")


async def unanswered_partly(outside: Outside) -> None:
    """One of a permission and a tool's result is given, the other is not."""
    outside.ask(turn("t1", "may I, and what is it? [[script: ask_both]]"))
    permission, _ = await calls(outside)
    outside.ask(confirming(permission, 5))
    await outside.said("turn.completed")


PLAYS = (
    confirm,
    confirm_denied,
    confirm_partly,
    confirm_both,
    confirm_twice,
    confirm_late,
    custom_tool,
    custom_tool_twice,
    both_kinds,
    own_tool,
    own_tool_hangs,
    unanswered,
    unanswered_partly,
)
UNANSWERED = (unanswered, unanswered_partly)
