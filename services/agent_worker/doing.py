"""The commands of a session that are under way, each a task under the session's lease."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.agent_worker.fencing import under_lease
from services.agent_worker.perform import Driven, perform
from shared.session.commands import AnyCommand, Interrupt, Open, Send
from shared.session.inputs import Input


class Doing:
    """The commands of `driven`. What one comes to goes to `signal`; `ended` hears of each that was done.

    A command stays among them until it is done: one that was cancelled or failed is still in the row, so that the
    next driver looks whether it happened. `lasts` answers whether the session is ours at this moment.
    """

    def __init__(
        self,
        driven: Driven,
        signal: Callable[[Input], None],
        ended: Callable[[], None],
        lasts: Callable[[], bool],
    ) -> None:
        self._driven = driven
        self._signal = signal
        self._ended = ended
        self._lasts = lasts
        self._tasks: dict[asyncio.Task[Input | None], AnyCommand] = {}

    @property
    def commands(self) -> tuple[AnyCommand, ...]:
        """Those under way, in the order in which they were begun."""
        return tuple(self._tasks.values())

    @property
    def asking(self) -> bool:
        """Whether a session or a turn is on its way to the provider."""
        return any(isinstance(command, Send | Open) for command in self.commands)

    def sending(self, turn_id: str) -> bool:
        """Whether the turn is on its way to the provider."""
        return any(
            isinstance(command, Send | Open) and command.turn_id == turn_id
            for command in self.commands
        )

    def interrupting(self, *, but: str) -> bool:
        """Whether an interrupt of another turn than `but` is on its way."""
        return any(
            isinstance(command, Interrupt) and command.turn_id != but for command in self.commands
        )

    def start(self, command: AnyCommand, *, resumed: bool) -> None:
        """Begin a command; `resumed`: an earlier driver may have done it already."""
        task = asyncio.create_task(self._do(command, resumed=resumed))
        self._tasks[task] = command
        task.add_done_callback(self._done)

    def cancel(self) -> list[asyncio.Task[Input | None]]:
        """End those under way; answers the tasks that end with it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        return tasks

    async def _do(self, command: AnyCommand, *, resumed: bool) -> Input | None:
        with under_lease(self._lasts):
            return await perform(command, self._driven, resumed=resumed)

    def _done(self, task: asyncio.Task[Input | None]) -> None:
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            self._driven.fail(error)
            return
        # Both at once: what comes of a command may be that it is given again.
        del self._tasks[task]
        if (result := task.result()) is not None:
            self._signal(result)
        self._ended()
