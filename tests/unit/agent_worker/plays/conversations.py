"""Turns in which nothing is asked of anybody and nothing goes wrong."""

from __future__ import annotations

from tests.builders import opening, turn
from tests.unit.agent_worker.outside import Outside


async def plain(outside: Outside) -> None:
    outside.ask(turn("t1", "good morning"))


async def tools(outside: Outside) -> None:
    outside.ask(opening(title="Trip"), turn("t1", "look [[script: tools]]"))


async def threads(outside: Outside) -> None:
    outside.ask(turn("t1", "all of you [[script: threads]]"))


async def refusal(outside: Outside) -> None:
    outside.ask(turn("t1", "do harm [[script: refusal]]"))


async def slow(outside: Outside) -> None:
    """The agent is at work for longer than leases last."""
    outside.ask(turn("t1", "hold on"))
    await outside.said("user.message")
    began = outside.clock().timestamp()
    await outside.until(lambda: outside.clock().timestamp() - began > 2, "two seconds")
    for session in outside.provider.sessions.values():
        session.release()


PLAYS = (plain, tools, threads, refusal, slow)
