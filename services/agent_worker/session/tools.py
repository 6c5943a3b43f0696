"""The custom tools that this worker runs, and their calls. No client, no database, no log.

A call always has a result. What goes wrong in a tool is a result with `is_error`, in words the agent can act on:
it may correct itself and call again. A tool may be run more than once for one call (a worker dies in the middle of
it), its result is given once; `called` tells a tool which call it serves, so that it can tell a repeat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from services.agent_worker.ports import NewInput, Store
from shared import logs
from shared.clock import Clock
from shared.errors import Transient
from shared.moment import rfc3339
from shared.retry import patiently
from shared.session.inputs import ToolAnswered
from shared.session.key import SessionKey
from shared.session.state import SessionState

NOTHING = "(no output)"
MAX_RESULT_BYTES = 512 * 1024
MAX_WORDS = 2_000
log = logs.get(__name__)


class Call(Struct, frozen=True, kw_only=True):
    """One call of a tool. `tool_use_id` is the same however often the call is served; `input` is its JSON."""

    tenant_id: str
    session_id: str
    user_id: str
    turn_id: str
    tool_use_id: str
    name: str
    input: Raw


class Result(Struct, frozen=True):
    """What the agent is given: text or content blocks, never empty."""

    content: str | list[dict[str, Any]]
    is_error: bool = False


class ToolFailed(Exception):
    """The tool says itself what is wrong, as text or blocks for the agent."""

    def __init__(self, content: object) -> None:
        super().__init__("the tool failed")
        self.content = content


class Function(Struct, frozen=True):
    """A tool. `declaration` is what an agent is told of it; `begin` starts a run with the call's input and returns
    its future, a Task where a run can be ended early. The future raises ToolFailed, or whatever the tool
    raises."""

    name: str
    declaration: dict[str, Any]
    begin: Callable[[dict[str, Any]], asyncio.Future[Any]]


called: ContextVar[Call] = ContextVar("called")


class Toolbox:
    """The tools of one process: at most `at_once` run, each for `seconds`, after waiting as long for its place."""

    def __init__(
        self, functions: Iterable[Function] = (), *, seconds: float = 60.0, at_once: int = 32
    ) -> None:
        self._functions = {function.name: function for function in functions}
        self._seconds = seconds
        self._places = asyncio.Semaphore(at_once)
        self._running: set[asyncio.Future[Any]] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._functions

    def __iter__(self) -> Iterator[Function]:
        return iter(self._functions.values())

    async def run(self, call: Call) -> Result:
        """Serve the call. Raises KeyError for a tool that is not in here, nothing else."""
        function = self._functions[call.name]
        try:
            given = _input(call.input)
            async with asyncio.timeout(self._seconds):
                await self._places.acquire()
        except ValueError as error:
            return _failed(str(error))
        except TimeoutError:
            log.warning("tool_has_no_place", tool=call.name)
            return _failed("the worker is too busy to run this tool now; try again later")
        return await self._served(function, call, given)

    async def _served(self, function: Function, call: Call, given: dict[str, Any]) -> Result:
        running = self._begin(function, call, given)
        try:
            await asyncio.wait({running}, timeout=self._seconds)
        finally:
            if not running.done() and isinstance(running, asyncio.Task):
                running.cancel()
        if not running.done():
            log.warning("tool_timed_out", tool=call.name, seconds=self._seconds)
            return _failed(f"no result within {self._seconds:g} s; it was given up")
        return _result(running, call.name)

    def _begin(self, function: Function, call: Call, given: dict[str, Any]) -> asyncio.Future[Any]:
        """Run it in a context of its own. Its place is free when it has really ended, not when it was given up."""
        token = called.set(call)
        try:
            running = function.begin(given)
        finally:
            called.reset(token)
        self._running.add(running)
        running.add_done_callback(self._ended)
        return running

    def _ended(self, running: asyncio.Future[Any]) -> None:
        self._running.discard(running)
        self._places.release()
        if not running.cancelled():
            running.exception()  # heard: one that was given up complains to nobody


def _input(raw: Raw) -> dict[str, Any]:
    try:
        given = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        given = None
    if not isinstance(given, dict):
        raise ValueError("the input must be a JSON object")
    return given


def _result(running: asyncio.Future[Any], name: str) -> Result:
    if running.cancelled():
        return _failed("the tool was cancelled")
    error = running.exception()
    try:
        if isinstance(error, ToolFailed):
            return Result(_content(error.content), is_error=True)
        if error is None:
            return Result(_content(running.result()))
    except (TypeError, ValueError) as wrong:
        error = wrong
    log.warning("tool_failed", tool=name, error=type(error).__name__)
    return _failed(f"{type(error).__name__}: {error}")


def _content(given: object) -> str | list[dict[str, Any]]:
    """What a tool returned, as the agent is given it. Raises TypeError or ValueError for what can't be given."""
    if given is None or (isinstance(given, str) and not given.strip()):
        return NOTHING
    content = given if isinstance(given, str) else _blocks(given)
    size = len(msgspec.json.encode(content))
    if size > MAX_RESULT_BYTES:
        raise ValueError(f"the result has {size} bytes, more than {MAX_RESULT_BYTES}; ask for less")
    return content or NOTHING


def _blocks(given: object) -> list[dict[str, Any]]:
    blocks: list[Any] = list(given) if isinstance(given, Iterable) else [given]
    for block in blocks:
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            raise TypeError(f"a tool answers text or content blocks, not {type(given).__name__}")
    return blocks


def _failed(words: str) -> Result:
    return Result(words[:MAX_WORDS], is_error=True)


FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0
T = TypeVar("T")


class WorkerTools:
    """The calls of one driven session that are being served, each in a task that `start` makes; `filed` is called
    when a result is in the inbox."""

    def __init__(
        self,
        toolbox: Toolbox,
        store: Store,
        *,
        clock: Clock,
        start: Callable[[Coroutine[None, None, None]], asyncio.Task[None]],
        filed: Callable[[], None],
    ) -> None:
        self._toolbox = toolbox
        self._store = store
        self._clock = clock
        self._start = start
        self._filed = filed
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def busy(self) -> bool:
        """Whether a tool runs, or its result is being filed."""
        return any(not task.done() for task in self._tasks.values())

    def serve(self, state: SessionState, traceparent: str) -> None:
        """Serve what waits now and is known to; leave what waits no more: somebody else answered, or it was
        interrupted. A call is served once the agent rests for it: before, the provider takes no answer."""
        calls = _calls(state)
        for tool_use_id in self._tasks.keys() - calls.keys():
            self._tasks.pop(tool_use_id).cancel()
        for tool_use_id, call in calls.items():
            if tool_use_id not in self._tasks and call.name in self._toolbox:
                self._tasks[tool_use_id] = self._start(self._serve(call, traceparent))

    async def _serve(self, call: Call, traceparent: str) -> None:
        key, input_id = (call.tenant_id, call.session_id), f"tool:{call.tool_use_id}"
        if not await _insist(lambda: _is_filed(self._store, key, input_id)):
            result = await self._toolbox.run(call)
            log.info("tool_served", tool=call.name, is_error=result.is_error)
            now = rfc3339(self._clock())
            new = NewInput(
                key=key,
                input_id=input_id,
                kind="tool.answered",
                body=msgspec.json.encode(_answer(call, result, now)),
                traceparent=traceparent,
                received_at=now,
            )
            await _insist(lambda: self._store.file([new]))
        self._filed()


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


async def _is_filed(store: Store, key: SessionKey, input_id: str) -> bool:
    try:
        await store.read(key, input_id)
    except KeyError:
        return False
    return True


async def _insist(ask: Callable[[], Awaitable[T]]) -> T:
    """What `ask` returns, however long the database is away."""
    return await patiently(ask, on=Transient, first=FIRST_WAIT, longest=LONGEST_WAIT, say=_waits)


def _waits(failures: int, error: Exception) -> None:
    log.warning("tool_waits_for_database", failures=failures, reason=getattr(error, "reason", ""))
