"""Performs commands: each against the provider or the dead letters, each safe to perform again.

A command ends in an input for the core, or in nothing when what it did will be seen in the provider's own events.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from services.agent_worker.ports import Provider, ProviderFailure, ProviderFeed, Publisher
from services.agent_worker.session.core_inputs import CoreInputs
from services.agent_worker.session.driven import DrivenSession
from services.agent_worker.session.filed import FiledInputs
from services.agent_worker.session.prewarmed import Prewarmed
from services.agent_worker.session.prompt import NUDGE, denial, joined
from shared import logs, metrics, telemetry
from shared.errors import Transient
from shared.session.commands import (
    Answer,
    AnyCommand,
    Close,
    DeadLetter,
    Deny,
    Interrupt,
    Open,
    RaiseBudget,
    Send,
    Steer,
)
from shared.session.events import PREWARM_MAX
from shared.session.inputs import (
    Bound,
    BudgetRefused,
    BudgetSet,
    Failed,
    Input,
    NothingRan,
    ToolAnswered,
    ToolConfirmed,
)
from shared.session.state import FAILED, OPENING, SessionState

# How often one driver puts an interrupt or an answer to the provider; waits double from half a second.
TRIES = 6
# How long an answer that was taken waits to be seen among the events; then the next driver gives it again. Until it
# is seen the session counts as one that waits for people: let go of, it would hear the agent a day later.
SEEN_SECONDS = 60.0
# How long an interrupt waits for the turn's message to be taken up: an interrupt that overtakes it stops nothing.
TAKE_UP_SECONDS = 2.0
# How long an erasure waits for the open turn to end by its interrupt before it deletes what the turn runs in.
ERASE_SECONDS = 15.0


log = logs.get(__name__)


class PutOff(Exception):
    """A command was tried in vain and nobody waits for it: it is for a later driver. `reason` is a stable word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Performer:
    """Performs the commands of `session`.

    `provider` returns the provider, to be taken for one call at once, and raises Fenced once the lease has run out.
    `feed` returns the provider session's feed once it listens, and raises ProviderFailure when that can't be had in
    time. `hear_out` returns once all that a lost provider session has to say is before the core, and raises
    ProviderFailure when that can't be had in time.
    """

    session: DrivenSession
    filed: FiledInputs
    provider: Callable[[], Provider]
    feed: Callable[[], Awaitable[ProviderFeed]]
    hear_out: Callable[[], Awaitable[None]]
    publisher: Publisher
    inputs: CoreInputs
    prewarmed: Prewarmed

    async def perform(self, command: AnyCommand, *, resumed: bool) -> Input | None:
        """Do what `command` says; `resumed` means that an earlier process may have done it already.

        Raises PutOff.
        """
        match command:
            case Open():
                return await self._open(command, resumed)
            case Send():
                return await self._send(command, resumed)
            case Steer():
                await self._steer(command, resumed)
            case Interrupt():
                return await self._interrupt(command, resumed)
            case Close():
                return await self._close(command)
            case Answer():
                await self._answer(command)
            case Deny():
                await self._deny(command)
            case RaiseBudget():
                return await self._raise_budget(command)
            case DeadLetter():
                await self._bury(command)
        return None

    # ---- turns ------------------------------------------------------------------------------------------------

    async def _open(self, command: Open, resumed: bool) -> Bound | Failed | None:
        state = self.session.state
        if not command.turn_id:
            return await self._prewarm(resumed)
        if state.open_turn != command.turn_id:
            return None
        # A second attempt may find what the first one made and never heard of.
        tried = state.failures > 0 or state.prewarm == FAILED
        return await self._opened(command.turn_id, look=resumed or tried)

    async def _prewarm(self, resumed: bool) -> Bound | Failed | None:
        """Make the provider session before any turn, if this process may keep another one."""
        session = self.session
        if session.state.prewarm != OPENING:
            return None
        if not self.prewarmed.take(session.head.key, made=resumed):
            _count_prewarm("full")
            words = "this worker keeps TURNSTILE_PREWARM_MAX provider sessions that wait for a turn"
            return self.inputs.failed("", ProviderFailure(PREWARM_MAX, words))
        bound = False
        try:
            opened = await self._opened("", look=resumed)
            bound = isinstance(opened, Bound)
        finally:
            if not bound:
                self.prewarmed.give_back(session.head.key)
        _count_prewarm("made" if bound else "failed")
        return opened

    async def _opened(self, turn_id: str, *, look: bool) -> Bound | Failed:
        try:
            with telemetry.span("provider.open", parent=self.session.traceparent()):
                made = await self.provider().open(self.session.state, look=look)
        except ProviderFailure as failure:
            return self.inputs.failed(turn_id, failure)
        now = self.inputs.now()
        return Bound(
            provider_session_id=made.id,
            agent=made.agent,
            agent_version=made.version,
            model=made.model,
            at=now,
        )

    async def _send(self, command: Send, resumed: bool) -> Failed | None:
        session = self.session
        if _overtaken(command, session.state):
            return None
        # An interrupt of the turn before that is still on its way would stop this one; and its message may be on
        # its way into that turn: what comes of it is known first.
        await session.until(lambda state: self._clear(command.turn_id), None)
        try:
            await self.feed()
            content = await self._content(command)
            # Asked last, and of the state that goes along: what the feed tells meanwhile may be the message itself,
            # and a look-up among the news does not find what was recorded.
            if _overtaken(command, session.state):
                return None
            with telemetry.span("provider.send", parent=session.traceparent()):
                look = resumed or command.look
                await self.provider().send(session.state, content, look=look)
        except ProviderFailure as failure:
            return await self._not_sent(command, failure)
        return None

    def _clear(self, turn_id: str) -> bool:
        session = self.session
        return not (session.interrupting(but=turn_id) or session.steering(turn_id))

    async def _steer(self, command: Steer, resumed: bool) -> None:
        """Put the message into the turn that runs. Where it can't be put the turn's own Send looks for it later,
        and sends it then: nothing is to be told to the core."""
        session = self.session
        await session.until(lambda state: not session.interrupting(but=command.turn_id), None)
        try:
            if not _steers(command, session.state):
                return
            await self.feed()
            filed = await self.filed.read(command.input_id)
            request: Any = filed.request
            if not _steers(command, session.state):
                return
            # What was said before was told with the message of the turn that runs.
            told = replace(session.state, rotated_from=None)
            with telemetry.span("provider.send", parent=session.traceparent()):
                await self.provider().send(told, request.said, look=resumed)
        except ProviderFailure as failure:
            log.warning("not_steered", turn_id=command.turn_id, reason=failure.reason)

    async def _not_sent(self, command: Send, failure: ProviderFailure) -> Failed | None:
        """A provider session that is lost is given up once all it said is recorded, or can't be read any more;
        while the provider is away the attempt has failed and no more."""
        if failure.lost:
            try:
                await self.hear_out()
            except ProviderFailure as away:
                failure = away
        if _is_over(command, self.session.state):
            return None  # ended by what was heard meanwhile: this is not the next one's failure
        return self.inputs.failed(command.turn_id, failure)

    async def _content(self, command: Send) -> Any:
        if command.nudge:
            return NUDGE
        ids = (command.input_id, *command.riders)
        requests: list[Any] = [(await self.filed.read(input_id)).request for input_id in ids]
        return joined([request.said for request in requests])

    async def _interrupt(self, command: Interrupt, resumed: bool) -> NothingRan | None:
        session, turn_id = self.session, command.turn_id

        def gone(state: SessionState) -> bool:
            return state.open_turn != turn_id

        def taken_up(state: SessionState) -> bool:
            sent = state.provider_session_id is not None and not session.sending(turn_id)
            return gone(state) or (sent and (state.progress is None or state.progress.prompted))

        def waits(state: SessionState) -> bool:
            """Whether its last attempt failed and it waits for the next; one that was interrupted for its silence
            goes on."""
            progress = state.progress
            if progress is None or progress.retry_at is None or progress.to_be_told:
                return False
            return not gone(state) and not session.sending(turn_id)

        while True:
            await session.until(lambda state: gone(state) or not session.sending(turn_id), None)
            ready = await session.until(
                lambda state: taken_up(state) or waits(state), TAKE_UP_SECONDS
            )
            if ready or not session.sending(turn_id):
                break
        if waits(session.state):
            return NothingRan(turn_id=turn_id, at=self.inputs.now())
        if resumed and session.state.steering is not None and await self._stopped(gone):
            return None
        if not gone(session.state) and session.state.provider_session_id is not None:
            await self._stop(until=gone)
        return None

    async def _stopped(self, gone: Callable[[SessionState], bool]) -> bool:
        """Whether an interrupt by an earlier process is told of: behind the turn that it stopped another may run
        already, whose message was on its way, and a second one would stop that."""

        def told(state: SessionState) -> bool:
            return gone(state) or (state.progress is not None and state.progress.interrupted)

        with contextlib.suppress(ProviderFailure):
            await self.feed()
        return await self.session.until(told, TAKE_UP_SECONDS)

    async def _stop(self, *, until: Callable[[SessionState], bool]) -> None:
        """Interrupt what runs, unless `until` holds meanwhile."""
        with telemetry.span("provider.interrupt", parent=self.session.traceparent()):
            await self._insist(lambda: self.provider().interrupt(self.session.state), until=until)

    # ---- answers ----------------------------------------------------------------------------------------------

    async def _answer(self, command: Answer) -> None:
        session = self.session
        await session.until(lambda state: session.answers_first(command), None)  # the first counts
        filed = await self.filed.read(command.input_id)
        request: Any = filed.request
        refused = await self._give(command.tool_use_id, request)
        if refused is not None:
            # What the provider can't take it never will; the call waits on for an answer that it can.
            detail = f"{command.tool_use_id}: {refused.reason}: {refused.detail}"
            why = DeadLetter(input_id=command.input_id, reason="answer_refused", detail=detail)
            await self.publisher.bury(self.session.head.key, filed, why)

    async def _deny(self, command: Deny) -> None:
        for action in self.session.state.pending:
            if action.tool_use_id == command.tool_use_id:
                request = denial(self.session.state, action, self.inputs.now())
                if await self._give(command.tool_use_id, request) is not None:
                    # A call that takes no denial would wait for ever: an interrupt closes it.
                    await self._stop(until=_answered(command.tool_use_id))

    async def _give(
        self, tool_use_id: str, request: ToolConfirmed | ToolAnswered
    ) -> ProviderFailure | None:
        """Give an answer; returns why the provider refuses it for good while the call goes on waiting."""
        session, answered = self.session, _answered(tool_use_id)
        if answered(session.state):
            return None
        try:
            await self.feed()
        except ProviderFailure as failure:
            if failure.lost:
                return None  # the watch tells of it, and the turn goes on elsewhere
            raise Transient(failure.reason, failure.detail) from failure
        call = {"turnstile.tool_use_id": tool_use_id}
        with telemetry.span("provider.answer", parent=session.traceparent(), attributes=call):
            taken = await self._insist(
                lambda: self.provider().answer(session.state, request), until=answered
            )
        if isinstance(taken, ProviderFailure):
            # 400 also for a call that somebody else has answered, which the stream tells in a moment.
            seen = taken.lost or await session.until(answered, TAKE_UP_SECONDS)
            return None if seen else taken
        if taken and not await session.until(answered, SEEN_SECONDS):
            detail = f"the answer to {tool_use_id} was not seen within {SEEN_SECONDS:.0f} s"
            raise Transient("answer_not_seen", detail)
        return None

    async def _raise_budget(self, command: RaiseBudget) -> BudgetSet | BudgetRefused:
        """Have the budget hold at the provider; where there is no provider session it holds for the next one."""
        session, asked = self.session, command.input_id
        await session.until(lambda state: session.raises_first(command), None)  # in their order
        ours = session.state.provider_session_id
        done = BudgetSet(input_id=asked, budget_usd=command.budget_usd, pause=command.pause, at="")
        if ours is None or session.state.retired is not None:
            return replace(done, at=self.inputs.now())
        cents = session.state.allowance(command.budget_usd)
        with telemetry.span("provider.set_budget", parent=session.traceparent()):
            taken = await self._insist(
                lambda: self.provider().set_budget(ours, cents),
                until=lambda state: state.provider_session_id != ours,
            )
        now = self.inputs.now()
        if isinstance(taken, ProviderFailure) and not taken.lost:
            return BudgetRefused(input_id=asked, reason=taken.reason, detail=taken.detail, at=now)
        return replace(done, at=now)

    # ---- ends -------------------------------------------------------------------------------------------------

    async def _close(self, command: Close) -> Failed | None:
        session, ours = self.session, command.provider_session_id
        erasing = command.erase and session.state.status == "erased"

        def is_left(state: SessionState) -> bool:
            """Whether no turn runs in it, now and later."""
            elsewhere = state.provider_session_id != ours or state.retired is not None
            return state.turn is None or elsewhere

        await session.until(is_left, ERASE_SECONDS if erasing else None)
        await self._hear_the_last(ours)
        with telemetry.span("provider.close"):
            try:
                await self._insist(
                    lambda: self.provider().close(ours, erase=command.erase),
                    until=lambda state: False,
                )
            except Transient as failed:
                if not erasing:
                    raise PutOff(failed.reason) from failed
                if session.state.provider_session_id != ours:
                    raise  # else what is ours is forgotten meanwhile, and the row goes on asking (see `forget`)
        return self._cut_short() if erasing else None

    async def _hear_the_last(self, ours: str) -> None:
        """Listen to what is about to be closed: the provider tells the end on the stream and does not list it. What
        is closed only because it rests waits for a stream. Raises PutOff."""
        if self.session.state.provider_session_id != ours:
            return
        try:
            await self.feed()
        except ProviderFailure as failure:
            state = self.session.state
            rests = state.provider_session_id == ours and state.retired is not None
            if rests and not (failure.lost or failure.final):
                raise PutOff(failure.reason) from failure

    def _cut_short(self) -> Failed | None:
        """The end of a turn that the provider did not end in time."""
        turn_id = self.session.state.open_turn
        if turn_id is None:
            return None
        gone = ProviderFailure("session_erased", "the session was erased", final=True)
        return self.inputs.failed(turn_id, gone)

    async def _bury(self, command: DeadLetter) -> None:
        filed = await self.filed.read(command.input_id)
        await self.publisher.bury(self.session.head.key, filed, command)

    async def _insist(
        self, call: Callable[[], Awaitable[None]], *, until: Callable[[SessionState], bool]
    ) -> bool | ProviderFailure:
        """Call until it works, or trying again is useless: an answered call, a session that is gone, a state such
        that `until` holds. That is asked before every further try: what was meant for one turn must not hit the
        next. Returns whether it worked, or the refusal that made further tries useless.

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
            if await self.session.until(until, wait):
                return False
        raise AssertionError("the last try returns or raises")


def _overtaken(command: Send, state: SessionState) -> bool:
    """Whether there is nothing left to send: the attempt is over, its provider session was given up, or the agent
    was seen to have its message."""
    if _is_over(command, state):
        return True
    prompted = state.progress is not None and state.progress.prompted
    return state.provider_session_id is None or prompted


def _is_over(command: Send, state: SessionState) -> bool:
    return (state.open_turn, state.failures + 1) != (command.turn_id, command.attempt)


def _steers(command: Steer, state: SessionState) -> bool:
    """Whether the message is still to go into the turn that runs."""
    steering = state.steering
    if steering is None or (state.open_turn, steering.turn.turn_id) != (
        command.joins,
        command.turn_id,
    ):
        return False
    return state.takes_steering


def _answered(tool_use_id: str) -> Callable[[SessionState], bool]:
    """Whether a call waits no more."""
    return lambda state: all(action.tool_use_id != tool_use_id for action in state.pending)


def _count_prewarm(outcome: str) -> None:
    metrics.inc("turnstile_prewarms_total", outcome=outcome)
