"""Performs commands: each against the provider or the dead letters, each safe to perform again; and the set of
those of a session that are under way.

A command ends in an input for the core, or in nothing when what it did will be seen in the provider's own events.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from services.agent_worker.leases import under_lease
from services.agent_worker.ports import Feed, Key, Provider, ProviderFailure, Publisher
from services.agent_worker.session.prompt import NUDGE, denial, joined
from shared import telemetry
from shared.errors import Transient
from shared.session.commands import (
    Answer,
    AnyCommand,
    Close,
    DeadLetter,
    Deny,
    Interrupt,
    Open,
    Send,
)
from shared.session.inputs import (
    Bound,
    Failed,
    Filed,
    Input,
    NothingRan,
    ToolAnswered,
    ToolConfirmed,
)
from shared.session.state import SessionState

# How often one driver puts an interrupt or an answer to the provider; waits double from half a second.
TRIES = 6
# How long an answer that was taken waits to be seen among the events; then the next driver gives it again. Until it
# is seen the session counts as one that waits for people: let go of, it would hear the agent a day later.
SEEN_SECONDS = 60.0
# How long an interrupt waits for the turn's message to be taken up: an interrupt that overtakes it stops nothing.
TAKE_UP_SECONDS = 2.0
# How long an erasure waits for the open turn to end by its interrupt before it deletes what the turn runs in.
ERASE_SECONDS = 15.0


class Driven(Protocol):
    """The session a command is for, as the shell drives it."""

    @property
    def state(self) -> SessionState: ...
    @property
    def provider(self) -> Provider: ...
    @property
    def publisher(self) -> Publisher: ...
    def fail(self, error: BaseException) -> None: ...
    def now(self) -> str: ...
    def chance(self) -> float: ...
    def traceparent(self) -> str: ...
    async def filed(self, input_id: str) -> Filed: ...
    async def feed(self) -> Feed: ...
    async def until(self, holds: Callable[[SessionState], bool], seconds: float | None) -> bool: ...
    def sending(self, turn_id: str) -> bool: ...
    def interrupting(self, *, but: str) -> bool: ...


async def perform(command: AnyCommand, driven: Driven, *, resumed: bool) -> Input | None:
    """Do what `command` says; `resumed` means that an earlier process may have done it already."""
    return await PERFORMERS[type(command)](command, driven, resumed)


async def _open(command: Open, driven: Driven, resumed: bool) -> Input | None:
    if driven.state.open_turn != command.turn_id:
        return None
    try:
        with telemetry.span("provider.open", parent=driven.traceparent()):
            # A second attempt may find what the first one made and never heard of.
            look = resumed or driven.state.failures > 0
            made = await driven.provider.open(driven.state, look=look)
    except ProviderFailure as failure:
        return failed(command.turn_id, failure, driven)
    return Bound(provider_session_id=made.id, agent=made.agent, model=made.model, at=driven.now())


async def _send(command: Send, driven: Driven, resumed: bool) -> Input | None:
    if _overtaken(command, driven.state):
        return None
    # An interrupt of the turn before that is still on its way would stop this one.
    await driven.until(lambda state: not driven.interrupting(but=command.turn_id), None)
    try:
        await (await driven.feed()).opened()
        content = await _content(command, driven)
        # Asked last, and of the state that goes along: what the feed tells meanwhile may be the message itself, and
        # a look-up among the news does not find what was recorded.
        if _overtaken(command, driven.state):
            return None
        with telemetry.span("provider.send", parent=driven.traceparent()):
            look = resumed or command.look
            await driven.provider.send(driven.state, content, look=look)
    except ProviderFailure as failure:
        return failed(command.turn_id, failure, driven)
    return None


async def _content(command: Send, driven: Driven) -> Any:
    if command.nudge:
        return NUDGE
    ids = (command.input_id, *command.riders)
    requests: list[Any] = [(await driven.filed(input_id)).request for input_id in ids]
    return joined([request.content for request in requests])


def _overtaken(command: Send, state: SessionState) -> bool:
    """Whether there is nothing left to send: the attempt is over, its provider session was given up, or the agent
    was seen to have its message."""
    attempt = state.failures + 1
    if (state.open_turn, attempt) != (command.turn_id, command.attempt):
        return True
    prompted = state.progress is not None and state.progress.prompted
    return state.provider_session_id is None or prompted


async def _interrupt(command: Interrupt, driven: Driven, resumed: bool) -> Input | None:
    def gone(state: SessionState) -> bool:
        return state.open_turn != command.turn_id

    def taken_up(state: SessionState) -> bool:
        sent = state.provider_session_id is not None and not driven.sending(command.turn_id)
        return gone(state) or (sent and (state.progress is None or state.progress.prompted))

    def waits(state: SessionState) -> bool:
        """Whether its last attempt failed and it waits for the next; one that was interrupted for its silence goes
        on."""
        progress = state.progress
        waits = progress is not None and progress.retry_at is not None and not progress.to_be_told
        return waits and not gone(state) and not driven.sending(command.turn_id)

    while True:
        await driven.until(lambda state: gone(state) or not driven.sending(command.turn_id), None)
        ready = await driven.until(lambda state: taken_up(state) or waits(state), TAKE_UP_SECONDS)
        if ready or not driven.sending(command.turn_id):
            break
    if waits(driven.state):
        return NothingRan(turn_id=command.turn_id, at=driven.now())
    if not gone(driven.state) and driven.state.provider_session_id is not None:
        with telemetry.span("provider.interrupt", parent=driven.traceparent()):
            await _insist(lambda: driven.provider.interrupt(driven.state), driven, until=gone)
    return None


async def _answer(command: Answer, driven: Driven, resumed: bool) -> Input | None:
    filed = await driven.filed(command.input_id)
    request: Any = filed.request
    refused = await _give(command.tool_use_id, request, driven)
    if refused is not None:
        # What the provider can't take it never will; the call waits on for an answer that it can.
        detail = f"{command.tool_use_id}: {refused.reason}: {refused.detail}"
        why = DeadLetter(input_id=command.input_id, reason="answer_refused", detail=detail)
        await driven.publisher.bury(_key(driven), filed, why)
    return None


async def _deny(command: Deny, driven: Driven, resumed: bool) -> Input | None:
    for action in driven.state.pending:
        if action.tool_use_id == command.tool_use_id:
            request = denial(driven.state, action, driven.now())
            if await _give(command.tool_use_id, request, driven) is not None:
                # A call that takes no denial would wait for ever: an interrupt closes it.
                with telemetry.span("provider.interrupt", parent=driven.traceparent()):
                    until = _answered(command.tool_use_id)
                    await _insist(
                        lambda: driven.provider.interrupt(driven.state), driven, until=until
                    )
    return None


def _answered(tool_use_id: str) -> Callable[[SessionState], bool]:
    """Whether a call waits no more."""
    return lambda state: all(action.tool_use_id != tool_use_id for action in state.pending)


async def _give(
    tool_use_id: str, request: ToolConfirmed | ToolAnswered, driven: Driven
) -> ProviderFailure | None:
    """Give an answer; returns why the provider refuses it for good while the call goes on waiting."""
    answered = _answered(tool_use_id)
    if not answered(driven.state):
        try:
            await (await driven.feed()).opened()
        except ProviderFailure as failure:
            if failure.lost:
                return None  # the watch tells of it, and the turn goes on elsewhere
            raise Transient(failure.reason, failure.detail) from failure
        call = {"turnstile.tool_use_id": tool_use_id}
        with telemetry.span("provider.answer", parent=driven.traceparent(), attributes=call):
            taken = await _insist(
                lambda: driven.provider.answer(driven.state, request), driven, until=answered
            )
        if isinstance(taken, ProviderFailure):
            # 400 also for a call that somebody else has answered, which the stream tells in a moment.
            seen = taken.lost or await driven.until(answered, TAKE_UP_SECONDS)
            return None if seen else taken
        if taken and not await driven.until(answered, SEEN_SECONDS):
            detail = f"the answer to {tool_use_id} was not seen within {SEEN_SECONDS:.0f} s"
            raise Transient("answer_not_seen", detail)
    return None


async def _close(command: Close, driven: Driven, resumed: bool) -> Input | None:
    await driven.until(lambda state: state.turn is None, ERASE_SECONDS if command.erase else None)
    if driven.state.provider_session_id == command.provider_session_id:
        # The provider tells the end on the stream and does not list it: listen first.
        with contextlib.suppress(ProviderFailure):
            await (await driven.feed()).opened()
    with telemetry.span("provider.close"):
        try:
            await _insist(
                lambda: driven.provider.close(command.provider_session_id, erase=command.erase),
                driven,
                until=lambda state: False,
            )
        except Transient:
            known = driven.state.provider_session_id == command.provider_session_id
            if not (command.erase and known):
                raise  # else what is ours is forgotten meanwhile, and the row goes on asking (see `parting`)
    return _cut_short(driven) if command.erase else None


def _cut_short(driven: Driven) -> Input | None:
    """The end of a turn that the provider did not end in time."""
    if driven.state.open_turn is None:
        return None
    gone = ProviderFailure("session_erased", "the session was erased", final=True)
    return failed(driven.state.open_turn, gone, driven)


async def _dead_letter(command: DeadLetter, driven: Driven, resumed: bool) -> Input | None:
    filed = await driven.filed(command.input_id)
    await driven.publisher.bury(_key(driven), filed, command)
    return None


def _key(driven: Driven) -> Key:
    return (driven.state.tenant_id, driven.state.session_id)


async def _insist(
    call: Callable[[], Awaitable[None]], driven: Driven, *, until: Callable[[SessionState], bool]
) -> bool | ProviderFailure:
    """Call until it works, or trying again is useless: an answered call, a session that is gone, a state such that
    `until` holds. That is asked before every further try: what was meant for one turn must not hit the next.
    Returns whether it worked, or the refusal that made further tries useless.

    Raises Transient when the last try failed: the session is dropped with the command in its row, and the next
    driver goes on with it, as long as the provider is away.
    """
    for attempt in range(TRIES):
        try:
            await call()
            return True
        except ProviderFailure as failure:
            if failure.final or failure.lost:
                return failure
            if attempt == TRIES - 1:
                raise Transient(failure.reason, failure.detail) from failure
            wait = min(failure.retry_after or 0.5 * 2**attempt, 30.0)
        if await driven.until(until, wait):
            return False
    raise AssertionError("the last try returns or raises")


def failed(turn_id: str, failure: ProviderFailure, driven: Driven) -> Failed:
    """What a failure of the provider is to the core."""
    return Failed(
        turn_id=turn_id,
        reason=failure.reason,
        detail=failure.detail,
        at=driven.now(),
        chance=driven.chance(),
        final=failure.final,
        lost=failure.lost,
        retry_after=failure.retry_after,
    )


PERFORMERS: dict[type, Callable[[Any, Driven, bool], Awaitable[Input | None]]] = {
    Open: _open,
    Send: _send,
    Interrupt: _interrupt,
    Answer: _answer,
    Deny: _deny,
    Close: _close,
    DeadLetter: _dead_letter,
}


class CommandTasks:
    """The commands of `driven`. The outcome of each goes to `signal`; `ended` is called with each that was done.

    A command stays among them until it is done: one that was cancelled or failed is still in the row, so that the
    next driver looks whether it happened. `lasts` returns whether the session is ours at this moment.
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
        """End those under way; returns the tasks that end with it."""
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
