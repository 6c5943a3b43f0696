"""Turns that steer the one that runs."""

from __future__ import annotations

from services.agent_worker.ports import ProviderFailure
from tests.builders import interrupting, turn
from tests.fakes.conversation import Conversation
from tests.unit.agent_worker.outside import Outside
from tests.unit.agent_worker.plays.retries import BUSY

HELD, TOOL = "hold on", "hold on [[script: long_tool]]"


async def _begin(outside: Outside, text: str = HELD) -> Conversation:
    """The agent is at work on t1."""
    outside.ask(turn("t1", text))
    await outside.said("agent.tool_use" if text == TOOL else "user.message")
    return outside.provider.sessions["sesn_1"]


async def _queued(outside: Outside, session: Conversation, text: str = "go left") -> None:
    """The message of t2 waits at the provider."""
    outside.ask(turn("t2", text, 3, on_busy="steer"))
    await outside.until(lambda: len(session.told) == 2, "the steering message")


async def _taken(outside: Outside, session: Conversation) -> None:
    """The agent has the message of t2, and is not done."""
    await _queued(outside, session)
    session.release()
    await outside.said("user.message", count=2)


async def steered(outside: Outside) -> None:
    """It is taken up with the next request to the model, and both end."""
    session = await _begin(outside)
    await _queued(outside, session)
    session.release()


async def steered_twice(outside: Outside) -> None:
    """The next one goes out once the first was taken up; one behind them does not."""
    outside.sent = [TOOL, "go left", "go right", "and then"]
    session = await _begin(outside, TOOL)
    outside.ask(turn("t2", "go left", 3, on_busy="steer"))
    outside.ask(turn("t3", "go right", 4, on_busy="steer"), turn("t4", "and then", 5))
    await outside.said("turn.accepted", count=4)
    await outside.until(lambda: len(session.told) == 2, "the steering message")
    session.release()
    await outside.until(lambda: len(session.told) == 3, "the second one")
    session.release()


async def steered_unanswered(outside: Outside) -> None:
    """Its send lands and nobody can tell."""
    session = await _begin(outside)
    outside.provider.lost_answers.append(ProviderFailure("timeout", "no answer, and no list"))
    await _queued(outside, session)
    session.release()


async def steered_in_vain(outside: Outside) -> None:
    """The provider does not take it before the turn has ended: it goes out by itself."""
    session = await _begin(outside)
    outside.provider.refuses = BUSY
    outside.ask(turn("t2", "go left", 3, on_busy="steer"))
    await outside.said("turn.started", count=2)
    session.release()
    await outside.said("turn.completed")
    outside.provider.refuses = None


async def steered_interrupted(outside: Outside) -> None:
    """Both are interrupted: the agent had both."""
    session = await _begin(outside, TOOL)
    await _taken(outside, session)
    outside.ask(interrupting(9))


async def steered_after_interrupt(outside: Outside) -> None:
    """The one that runs is interrupted, and what was queued is taken up behind it: no interrupt stops that."""
    session = await _begin(outside)
    await _queued(outside, session, "hold left")
    outside.ask(interrupting(9))
    await outside.said("user.message", count=2)
    session.release()


async def steered_flushed(outside: Outside) -> None:
    """The turn is exhausted and takes the queued message with it: both go out again, one after the other."""
    outside.sent = [HELD, "go left", HELD, "go left"]
    session = await _begin(outside)
    await _queued(outside, session)
    session.exhaust()
    await outside.until(lambda: len(session.told) == 3, "the next attempt")
    session.release()


async def steered_exhausted(outside: Outside) -> None:
    """The agent had both messages when it was exhausted: both go out again, in one message."""
    outside.sent = [TOOL, "go left", TOOL, "go left"]
    session = await _begin(outside, TOOL)
    await _taken(outside, session)
    session.exhaust()
    await outside.until(lambda: len(session.told) == 3, "the next attempt")
    session.release()
    session.release()


async def steered_lost(outside: Outside) -> None:
    """The provider session is deleted by somebody while the message is queued."""
    past = "(what was said in sesn_1)"
    outside.sent, outside.rotations = [HELD, "go left", past, HELD, "go left"], 1
    session = await _begin(outside)
    await _queued(outside, session)
    session.vanish()
    await outside.until(lambda: len(outside.provider.sessions) == 2, "another session")
    other = outside.provider.sessions["sesn_2"]
    await outside.until(lambda: len(other.told) == 1, "the next attempt")
    other.release()


async def steered_elsewhere(outside: Outside) -> None:
    """The turn moved to another provider session, which was told what was said: who steers says its own alone."""
    past = "(what was said in sesn_1)"
    outside.sent, outside.rotations = [HELD, past, HELD, "go left"], 1
    session = await _begin(outside)
    session.vanish()
    await outside.until(lambda: len(outside.provider.sessions) == 2, "another session")
    other = outside.provider.sessions["sesn_2"]
    await outside.until(lambda: len(other.told) == 1, "the next attempt")
    outside.ask(turn("t2", "go left", 9, on_busy="steer"))
    await outside.until(lambda: len(other.told) == 2, "the steering message")
    other.release()


PLAYS = (
    steered,
    steered_twice,
    steered_unanswered,
    steered_in_vain,
    steered_interrupted,
    steered_after_interrupt,
    steered_flushed,
    steered_exhausted,
    steered_lost,
    steered_elsewhere,
)
