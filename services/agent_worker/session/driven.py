"""A claimed session as it stands in this process: its row, its commands under way, its open turn's trace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.agent_worker.ports import Head
from services.agent_worker.session.trace import TurnTrace
from shared.session.commands import (
    Answer,
    AnyCommand,
    Close,
    Interrupt,
    Open,
    RaiseBudget,
    Send,
    Steer,
)
from shared.session.state import SessionState


class DrivenSession:
    """`head`: the row as last written. `commands`: those begun and not done, in the order in which they were begun;
    one that was cancelled or failed stays, so that the next driver looks whether it happened. `put_off`: those that
    were tried in vain and are for a later driver.

    Whoever changes either calls `changed` once the change may be acted on. `trace` follows the same events.
    """

    def __init__(self, head: Head, trace: TurnTrace) -> None:
        self.head = head
        self.trace = trace
        self.commands: list[AnyCommand] = []
        self.put_off: list[AnyCommand] = []
        self._changed = asyncio.Event()

    @property
    def state(self) -> SessionState:
        """The session's state, as last written."""
        return self.head.state

    @property
    def todo(self) -> tuple[AnyCommand, ...]:
        """The commands that are not done."""
        return (*self.commands, *self.put_off)

    @property
    def listens_to(self) -> str | None:
        """The provider session that may have something to say; one that was retired and closed has not."""
        bound_to = self.state.provider_session_id
        closing = (one for one in self.head.todo if isinstance(one, Close))
        closed = all(command.provider_session_id != bound_to for command in closing)
        return None if self.state.retired is not None and closed else bound_to

    def traceparent(self) -> str:
        """Where spans of the open turn hang."""
        return self.trace.traceparent(self.state)

    @property
    def asking(self) -> bool:
        """Whether a session or a turn is on its way to the provider."""
        return any(isinstance(command, Send | Steer | Open) for command in self.commands)

    def sending(self, turn_id: str) -> bool:
        """Whether the turn is on its way to the provider, or waits for the provider session that was asked for
        before it."""
        return any(
            isinstance(command, Send | Steer | Open) and command.turn_id in (turn_id, "")
            for command in self.commands
        )

    def steering(self, turn_id: str) -> bool:
        """Whether the turn's message is on its way into the turn before it."""
        return any(
            isinstance(command, Steer) and command.turn_id == turn_id for command in self.commands
        )

    def interrupting(self, *, but: str) -> bool:
        """Whether an interrupt of another turn than `but` is on its way."""
        return any(
            isinstance(command, Interrupt) and command.turn_id != but for command in self.commands
        )

    def answers_first(self, command: Answer) -> bool:
        """Whether no answer to the same call that was given earlier is on its way."""
        answers = (one for one in self.commands if isinstance(one, Answer))
        same = (one for one in answers if one.tool_use_id == command.tool_use_id)
        return next(same, command) == command

    def raises_first(self, command: RaiseBudget) -> bool:
        """Whether no budget that was asked for earlier is on its way."""
        raises = (one for one in self.commands if isinstance(one, RaiseBudget))
        return next(raises, command) == command

    def changed(self) -> None:
        """Wake those who wait in `until`, so that they look again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def until(self, holds: Callable[[SessionState], bool], seconds: float | None) -> bool:
        """Wait until the session is such that `holds`; returns False when `seconds` ran out first."""
        try:
            async with asyncio.timeout(seconds):
                while not holds(self.state):
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True
