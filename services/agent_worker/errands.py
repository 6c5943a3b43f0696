"""The custom tool calls of a session that this worker serves itself.

A result goes into the session's inbox under an id made from the call's, as if it had come from outside: whoever
drives the session then gives it to the agent, and a second one of the same call, by whichever worker, is no news.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import msgspec

from services.agent_worker.ports import Key, NewInput, Store
from services.agent_worker.tools import Call, Result, Toolbox
from shared import logs
from shared.errors import Transient
from shared.session.inputs import ToolAnswered
from shared.session.state import SessionState

FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0
T = TypeVar("T")
log = logs.get(__name__)


class Sender(Protocol):
    """The session on whose behalf tools are run."""

    @property
    def state(self) -> SessionState: ...
    def now(self) -> str: ...
    def traceparent(self) -> str: ...
    def poke(self) -> None: ...
    def fail(self, error: BaseException) -> None: ...


class Errands:
    """The calls of one driven session that are being served."""

    def __init__(self, toolbox: Toolbox, store: Store, sender: Sender) -> None:
        self._toolbox = toolbox
        self._store = store
        self._sender = sender
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def busy(self) -> bool:
        """Whether a tool runs, or its result is being filed."""
        return any(not task.done() for task in self._tasks.values())

    def look(self) -> None:
        """Serve what waits now and is known to; leave what waits no more: somebody else answered, or it was
        interrupted. A call is served once the agent rests for it: before, the provider takes no answer."""
        calls = _calls(self._sender.state)
        for tool_use_id in self._tasks.keys() - calls.keys():
            self._tasks.pop(tool_use_id).cancel()
        for tool_use_id, call in calls.items():
            if tool_use_id not in self._tasks and call.name in self._toolbox:
                task = asyncio.create_task(self._serve(call, self._sender.traceparent()))
                self._tasks[tool_use_id] = task
                task.add_done_callback(self._ended)

    def cancel(self) -> list[asyncio.Task[None]]:
        """Leave everything; the next driver begins anew. Answers the tasks that end with it."""
        for task in self._tasks.values():
            task.cancel()
        return list(self._tasks.values())

    async def _serve(self, call: Call, traceparent: str) -> None:
        key, input_id = (call.tenant_id, call.session_id), f"tool:{call.tool_use_id}"
        if await _insist(lambda: _is_filed(self._store, key, input_id)):
            return
        result = await self._toolbox.run(call)
        log.info("tool_served", tool=call.name, is_error=result.is_error)
        now = self._sender.now()
        new = NewInput(
            key=key,
            input_id=input_id,
            kind="tool.answered",
            body=msgspec.json.encode(_answer(call, result, now)),
            traceparent=traceparent,
            received_at=now,
        )
        await _insist(lambda: self._store.file([new]))

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            self._sender.fail(error)
        self._sender.poke()


def _calls(state: SessionState) -> dict[str, Call]:
    """The custom tools that the open turn waits for, by id."""
    if state.turn is None or state.progress is None:
        return {}
    announced, turn = state.progress.announced, state.turn
    return {
        action.tool_use_id: Call(
            tenant_id=state.tenant_id,
            session_id=state.session_id,
            user_id=turn.user_id,
            turn_id=turn.turn_id,
            tool_use_id=action.tool_use_id,
            name=action.name,
            input=action.input,
        )
        for action in state.pending
        if action.kind == "custom_tool" and action.tool_use_id in announced
    }


def _answer(call: Call, result: Result, at: str) -> ToolAnswered:
    return ToolAnswered(
        tenant_id=call.tenant_id,
        session_id=call.session_id,
        at=at,
        custom_tool_use_id=call.tool_use_id,
        content=result.content,
        is_error=result.is_error,
    )


async def _is_filed(store: Store, key: Key, input_id: str) -> bool:
    try:
        await store.read(key, input_id)
    except KeyError:
        return False
    return True


async def _insist(ask: Callable[[], Awaitable[T]]) -> T:
    """What `ask` answers, however long the database is away."""
    wait = FIRST_WAIT
    while True:
        try:
            return await ask()
        except Transient as error:
            log.warning("tool_waits_for_database", reason=error.reason)
        await asyncio.sleep(wait)
        wait = min(wait * 2, LONGEST_WAIT)
