"""MCP servers that take no credential: connected while it is waited for, in vain, by another vault, or never."""

from __future__ import annotations

from tests.builders import confirming, interrupting, opening, turn
from tests.fakes.provider import past_of
from tests.unit.agent_worker.outside import Outside
from tests.unit.agent_worker.plays.asking import calls

ASKED, NEXT = "look into the issue", "and close it"
# With vaults of its own; without, it has those of the day its provider session is made.
NAMED = opening(vault_ids=["vlt_1"])


async def connected(outside: Outside) -> None:
    """The message goes out again, once, and the next turn behind it."""
    outside.provider.fates.append("unconnected")
    outside.sent = [ASKED, ASKED, NEXT]
    outside.ask(NAMED, turn("t1", ASKED), turn("t2", NEXT))
    (error,) = await calls(outside)
    outside.ask(confirming(error, 5))


async def connected_late(outside: Outside) -> None:
    """The session was let go of meanwhile; a second confirmation comes to nothing."""
    outside.provider.fates.append("unconnected")
    outside.sent = [ASKED, ASKED]
    outside.ask(NAMED, turn("t1", ASKED))
    (error,) = await calls(outside)
    await outside.until(lambda: outside.settled, "a rest")
    outside.ask(confirming(error, 5), confirming(error, 6))


async def connected_in_vain(outside: Outside) -> None:
    """It is no better than the one before."""
    outside.provider.fates.extend(["unconnected"] * 2)
    outside.sent = [ASKED] * 3
    outside.ask(NAMED, turn("t1", ASKED))
    (first,) = await calls(outside)
    outside.ask(confirming(first, 5))
    (second,) = await calls(outside, count=2)
    outside.ask(confirming(second, 6))


async def connected_by_another_vault(outside: Outside) -> None:
    """The provider session can't have it: the turn goes on in a new one."""
    outside.provider.fates.extend(["unconnected"] * 2)
    outside.sent, outside.rotations = [ASKED, ASKED, past_of("sesn_1"), ASKED], 1
    outside.ask(turn("t1", ASKED))
    (error,) = await calls(outside)
    outside.ask(confirming(error, 5))
    await outside.said("session.rotated")


async def connection_denied(outside: Outside) -> None:
    outside.provider.fates.append("unconnected")
    outside.ask(NAMED, turn("t1", ASKED), turn("t2", NEXT))
    (error,) = await calls(outside)
    outside.ask(confirming(error, 5, "deny"))


async def connection_interrupted(outside: Outside) -> None:
    outside.provider.fates.append("unconnected")
    outside.ask(NAMED, turn("t1", ASKED), turn("t2", NEXT))
    await outside.said("turn.requires_action")
    outside.ask(interrupting(5))


async def never_connected(outside: Outside) -> None:
    outside.provider.fates.append("unconnected")
    outside.ask(NAMED, turn("t1", ASKED))
    await outside.said("turn.failed")


PLAYS = (
    connected,
    connected_late,
    connected_in_vain,
    connected_by_another_vault,
    connection_denied,
    connection_interrupted,
    never_connected,
)
