"""Provider sessions that are lost: the turn goes on in another one, with what was said."""

from __future__ import annotations

from tests.builders import confirming, turn
from tests.fakes.provider import past_of
from tests.unit.agent_worker.outside import Outside
from tests.unit.agent_worker.plays.asking import calls

PAST = past_of("sesn_1")


async def terminal(outside: Outside) -> None:
    """It ends with an error in mid-turn."""
    outside.provider.fates.append("terminal")
    outside.sent, outside.rotations = ["go", PAST, "go", "and on"], 1
    outside.ask(turn("t1", "go"), turn("t2", "and on"))


async def lost_between(outside: Outside) -> None:
    """It is closed behind our back between two turns."""
    outside.sent, outside.rotations = ["go", PAST, "and on"], 1
    outside.ask(turn("t1", "go"))
    await outside.said("turn.completed")
    await outside.until(lambda: outside.settled, "a rest")
    await outside.provider.close("sesn_1", erase=False)
    outside.ask(turn("t2", "and on", 60))


async def deleted(outside: Outside) -> None:
    """It is deleted in the middle of the second turn, with all that was said in it."""
    outside.provider.fates.extend(["", "deleted"])
    outside.sent, outside.rotations = ["go", "and on", PAST, "and on"], 1
    outside.ask(turn("t1", "go"), turn("t2", "and on"))


async def lost_while_waiting(outside: Outside) -> None:
    """It is deleted while the turn waits for a person, who is asked again."""
    text = "may I? [[script: confirm]]"
    outside.sent, outside.rotations = [text, PAST, text], 1
    outside.ask(turn("t1", text))
    (call,) = await calls(outside)
    await outside.until(lambda: outside.settled, "a rest")
    outside.provider.sessions["sesn_1"].vanish()
    outside.ask(confirming(call, 5))
    (again,) = await calls(outside, count=2)
    outside.ask(confirming(again, 10))


async def silent_for_good(outside: Outside) -> None:
    """The agent says nothing, not even when it is interrupted."""
    outside.provider.fates.append("deaf")
    outside.sent, outside.rotations = ["go", PAST, "go"], 1
    outside.ask(turn("t1", "go"))
    await outside.said("turn.completed")


async def twice(outside: Outside) -> None:
    """The next one is lost as well."""
    outside.provider.fates.extend(["terminal", "terminal"])
    outside.sent, outside.rotations = ["go", PAST, "go", past_of("sesn_2"), "go"], 2
    outside.ask(turn("t1", "go"))


PLAYS = (terminal, lost_between, deleted, lost_while_waiting, silent_for_good, twice)
