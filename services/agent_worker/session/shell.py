"""The shell around the core, for one claimed session: **write** it, then **say** it and **do** it at once.

Every pass takes all inputs that have come (requests from the inbox, what the provider said, how commands ended),
lets the core decide on each, writes the row once with the new state, the events not yet said and the commands not
yet done, and only then starts the commands and publishes the events; the next pass begins when these are published.
So whatever instant the process dies at, the row tells the next one what has perhaps not been said, and what has
perhaps not been done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, TypeVar

from msgspec.structs import replace

from services.agent_worker.leases import Leases, under_lease
from services.agent_worker.ports import (
    CapReached,
    Head,
    NewInput,
    Provider,
    ProviderFeed,
    filed_of,
)
from services.agent_worker.session import trace
from services.agent_worker.session.core_inputs import CoreInputs
from services.agent_worker.session.dependencies import Dependencies
from services.agent_worker.session.driven import DrivenSession
from services.agent_worker.session.filed import FiledInputs
from services.agent_worker.session.forget import again_at, forgotten, is_over, left_elsewhere
from services.agent_worker.session.handed import Handed
from services.agent_worker.session.hearing import Hearing
from services.agent_worker.session.patience import (
    only_ends,
    patience,
    rests,
    try_again_at,
    until_deadline,
    waited_out,
)
from services.agent_worker.session.perform import Performer, PutOff
from services.agent_worker.session.spending import Spending
from services.agent_worker.session.tools import WorkerTools
from services.agent_worker.session.trace import Claim, TurnTrace
from services.agent_worker.session.watch import Watch
from shared import logs
from shared.errors import Fenced
from shared.session import Decision, decide
from shared.session.commands import AnyCommand
from shared.session.events import Event
from shared.session.inputs import DeadlineElapsed, Filed, Input
from shared.session.key import SessionKey
from shared.session.policy import Barred
from shared.session.state import CLOSED, SessionState

T = TypeVar("T")
log = logs.get(__name__)


class Shell:
    """Drives the session `key` from claim to release. Use once. `released`: the lease was (or is being) given back;
    `claimed_at`: when it was asked for, by the monotonic clock of `leases`."""

    def __init__(self, head: Head, needs: Dependencies, leases: Leases, claimed_at: float) -> None:
        self.key: SessionKey = head.key
        self.epoch = head.epoch
        self.claimed_at = claimed_at
        self.released = False
        self._needs = needs
        self._leases = leases
        claim = Claim.lately(head.epoch, leases.monotonic() - claimed_at, needs.clock())
        self._trace = TurnTrace(needs.attempts, claim)
        self._session = DrivenSession(head, self._trace)
        self._filed = FiledInputs(needs.store, head.key)
        self._inputs = CoreInputs(needs.clock, needs.chance)
        self._spending = Spending(needs.caps, needs.turn_reserve)
        self._performer = Performer(
            session=self._session,
            filed=self._filed,
            provider=self._provider,
            feed=self._feed,
            hear_out=self._hear_out,
            publisher=needs.publisher,
            inputs=self._inputs,
            prewarmed=needs.prewarmed,
        )
        self._hearing = Hearing(self._inputs.now)
        self._tools = WorkerTools(
            needs.tools, needs.store, clock=needs.clock, start=self._start, filed=self.poke
        )
        self._watch: Watch | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._signals: list[Input] = [DeadlineElapsed(at=self._inputs.now())]
        self._news = asyncio.Event()
        self._poked, self._stopping, self._waits = True, False, False
        self._handed: Handed | None = None
        self._placed = self._deferred = False
        self._heard_at = self._inputs.now()
        self._broken: BaseException | None = None

    async def run(self) -> None:
        """Drive until there is nothing to do, then release the session.

        Raises Fenced when it was taken over; whatever is raised, the row tells the next driver where to go on.
        """
        session = self._session
        try:
            self._trace.resume(session.state, self._needs.clock())
            await self._saying(session.head.unsaid, session.state)
            self._begin()
            self._serve_tools()
            while inputs := await self._next():
                await self._advance(inputs)
            await self._cease()
            await self._release()
        finally:
            self._leave_place()
            self._trace.leave(session.state, self._needs.clock())
            self._give_back(filed=False)
            await self._cease()

    def _begin(self) -> None:
        """Go on with what the row tells; what ends at the provider and finds no place is for a later driver."""
        head, now = self._session.head, self._inputs.now()
        if only_ends(head, now):
            self._placed = self._needs.ending.take()
            self._deferred = not self._placed
        if self._deferred:
            self._session.put_off += head.todo
            self._signals.clear()
            return
        if not rests(head, now):
            self._keep_watch(fresh=False, begun=True)
        for command in head.todo:
            self._do(command, resumed=True)

    def _leave_place(self) -> None:
        if self._placed:
            self._placed = False
            self._needs.ending.give_back()

    def poke(self) -> None:
        """There may be new inputs in the inbox."""
        self._poked = True
        self._news.set()

    def hand(self, inputs: Sequence[NewInput]) -> asyncio.Future[bool] | None:
        """Take in inputs that nobody has filed, in one write that files them. The result is whether they are filed;
        without it they are for the inbox. None: there is something to do first, or something handed already."""
        if not self._waits or self._poked or self._stopping or self._handed is not None:
            return None
        if self._spending.of(self._session.state, ()):
            return None  # what is paid for is written by itself
        self._handed = Handed(inputs)
        self._news.set()
        return self._handed.are_filed

    def stop(self) -> None:
        """Finish what is being asked of the provider, then give the session back."""
        self._stopping = True
        self._news.set()

    # ---- take in ----------------------------------------------------------------------------------------------

    def _signal(self, input: Input) -> None:
        self._signals.append(input)
        self._news.set()

    async def _next(self) -> list[Input]:
        """What has come since, waiting for it; empty: time to let go of the session."""
        while True:
            self._news.clear()
            if self._broken is not None:
                raise self._broken
            inputs = await self._unread() if self._poked else self._handed_over()
            # Last, with no wait from here to the write: the write strikes a command that has ended off the row, so
            # what came of it must be in the same one, or after a crash nobody would go on with the turn. Decided on
            # first: what a retired provider session said is recorded before the next turn leaves it.
            inputs, self._signals = [*self._signals, *inputs], []
            if inputs:
                self._heard_at = self._inputs.now()
                return inputs
            self._waits = True
            try:
                async with asyncio.timeout(self._patience()):
                    await self._news.wait()
            except TimeoutError:
                if not self._news.is_set() and (found := self._waited_out()) is not None:
                    return found
            finally:
                self._waits = False

    def _patience(self) -> float | None:
        """Seconds to wait for news; None: for ever, because something is being asked and no turn has a deadline."""
        session, now = self._session, self._inputs.now()
        if self._stopping:
            return None if session.asking or self._tools.busy else 0.0
        if self._busy:
            return until_deadline(session.state, now)
        at_rest = session.state.turn is None and session.state.provider_session_id is not None
        if at_rest and (self._watch is None or session.put_off):
            return 0.0  # nothing is heard that the next turn could gain by
        linger, policy = self._needs.linger, self._needs.policy
        return patience(session.state, now, self._heard_at, linger=linger, policy=policy)

    @property
    def _busy(self) -> bool:
        """Whether something is being asked of somebody."""
        return bool(self._session.commands) or self._tools.busy

    def _waited_out(self) -> list[Input] | None:
        """What is to be decided on; empty: the session can be let go of; None: there is something to wait for."""
        if self._stopping or self._deferred:
            return []
        state, now = self._session.state, self._inputs.now()
        if self._busy:
            return [DeadlineElapsed(at=now)] if until_deadline(state, now) == 0.0 else None
        needs = self._needs
        found = waited_out(state, now, self._heard_at, needs.chance(), needs.policy)
        if found is not None:
            self._heard_at = now
        return found

    def _handed_over(self) -> list[Input]:
        if self._handed is None:
            return []
        now = self._inputs.now()
        return [replace(filed_of(new), taken_at=now) for new in self._handed.inputs]

    def _give_back(self, *, filed: bool) -> None:
        """Tell who handed inputs over, if anybody did, whether they are filed."""
        handed, self._handed = self._handed, None
        if handed is not None and not handed.are_filed.done():
            handed.are_filed.set_result(filed)

    async def _unread(self) -> list[Input]:
        # What was handed over came later than what is in the inbox.
        self._give_back(filed=False)
        self._poked = False
        head = self._session.head
        unread = await self._filed.unread(head.position)
        if not unread:
            return []
        taken = head.taken + len(unread)
        self._session.head = replace(head, position=unread[-1].position, taken=taken)
        self._poked = len(unread) >= 1000  # the store's bound on one answer: there may be more
        return [replace(new.filed, taken_at=self._inputs.now()) for new in unread]

    # ---- write, then say and do -------------------------------------------------------------------------------

    async def _advance(self, inputs: list[Input]) -> None:
        session = self._session
        before = session.state
        decision = self._decided(inputs)
        self._deferred = False  # something came that is to be decided on now
        if decision.state.turn is not None:
            self._leave_place()
        if decision.state.turn is not None or decision.state.status in (*CLOSED, "dormant"):
            self._needs.prewarmed.give_back(self.key)
        state, events, commands = decision.state, decision.events, decision.commands
        saying: Coroutine[Any, Any, None] | None = None
        if events or commands or any(isinstance(input, Filed) for input in inputs):
            with self._trace.writing(before, state, len(events)):
                written = await self._written(decision, inputs)
            if written is None:
                return
            state, events, commands = written.state, written.events, written.commands
            trace.recorded(events, before, state, self._needs.clock())
            self._keep_watch(fresh=before.provider_session_id is None)
            self._trace.know(state)
            saying = self._saying(events, before)
            # What is done hangs below the attempt that the events begin; saying them is a step on the way to it.
            self._trace.follow(events, state, self._needs.clock())
        for command in commands:
            self._do(command, resumed=False)
        self._give_back(filed=True)
        self._serve_tools()
        session.changed()
        if saying is not None:
            await saying
        if self._watch is not None:
            self._watch.taken(inputs)

    async def _written(self, decision: Decision, inputs: Sequence[Input]) -> Decision | None:
        """Write what was decided, and file what was handed over; returns it. None: the inbox has that, and perhaps
        something else; nothing was written, and all is to be decided on again. Raises Fenced."""
        if self._handed is None:
            return await self._paid(decision, inputs)
        if self._spending.money(self._session.state, decision, inputs) is not None:
            self._back_to_inbox(inputs)  # a cap was set since they were handed over
            return None
        return decision if await self._taken_in(decision, inputs) else None

    async def _paid(self, decision: Decision, inputs: Sequence[Input]) -> Decision:
        """Write what was decided; of a turn that can't be paid it is decided anew, without it."""
        barred: dict[str, Barred] = {}
        while True:
            money = self._spending.money(self._session.state, decision, inputs)
            head = self._head_after(decision)
            try:
                self._session.head = await self._needs.store.write(head, money)
                return decision
            except CapReached as short:
                barred[short.turn_id] = self._spending.barred(short, self._needs.chance())
                decision = self._decided(inputs, barred)

    def _back_to_inbox(self, inputs: Sequence[Input]) -> None:
        """What was handed over is read from the inbox instead, and everything is decided on again with it."""
        self._give_back(filed=False)
        self._signals[:0] = [input for input in inputs if not isinstance(input, Filed)]
        self._poked = True

    def _head_after(self, decision: Decision) -> Head:
        todo = (*self._session.todo, *decision.commands)
        head = self._session.head
        return replace(head, state=decision.state, unsaid=decision.events, todo=todo)

    async def _taken_in(self, decision: Decision, inputs: Sequence[Input]) -> bool:
        session, handed = self._session, self._handed
        assert handed is not None
        head = self._head_after(decision)
        taken = head.taken + len(handed.inputs)
        written = await self._needs.store.take_in(replace(head, taken=taken), handed.inputs)
        filed = [input for input in inputs if isinstance(input, Filed)]
        if written is None:
            self._give_back(filed=True)
            self._back_to_inbox(inputs)
            return False
        session.head = written
        self._filed.taken(filed)
        return True

    def _decided(
        self, inputs: Sequence[Input], barred: Mapping[str, Barred] | None = None
    ) -> Decision:
        """What follows from all of them together; turns that are barred don't begin."""
        state, events, commands = self._session.state, list[Event](), list[AnyCommand]()
        policy = self._spending.policy(self._needs.policy, state, inputs, barred or {})
        for input in inputs:
            decision = decide(state, input, policy, self._hearing.of(state))
            state = decision.state
            events += decision.events
            # What is being done already is not begun anew: a moment that has come may be heard of twice.
            known = (*self._session.todo, *commands)
            commands += (command for command in decision.commands if command not in known)
        return Decision(state, tuple(events), tuple(commands))

    def _saying(self, events: Sequence[Event], before: SessionState) -> Coroutine[Any, Any, None]:
        """What says the events once it is awaited, in the trace as it stands now."""
        parents = {event.seq: self._trace.parent_of(event) for event in events}
        step = self._trace.saying(before, self._session.state, len(events)) if events else None
        return self._say(events, lambda event: parents[event.seq], step)

    async def _say(
        self,
        events: Sequence[Event],
        parent_of: Callable[[Event], str],
        step: AbstractContextManager[object] | None,
    ) -> None:
        # What was begun goes as far as it gets without an answer: an agent waits for it. Two rounds of the loop,
        # its own and that of the task which writes a request's body.
        for _ in range(2):
            await asyncio.sleep(0)
        if step is not None:
            with step:
                await self._needs.publisher.say(events, parent_of)

    def _do(self, command: AnyCommand, *, resumed: bool) -> None:
        self._session.commands.append(command)
        self._start(self._perform(command, resumed=resumed))

    async def _perform(self, command: AnyCommand, *, resumed: bool) -> None:
        await self._leases.regain(self._needs.store, self.key, self.epoch, self.claimed_at)
        result = None
        try:
            with under_lease(self._leased):
                result = await self._performer.perform(command, resumed=resumed)
        except PutOff as put_off:
            log.warning("put_off", command=type(command).__name__, reason=put_off.reason)
            self._session.put_off.append(command)
        # Both at once: what comes of a command may be that it is given again.
        self._session.commands.remove(command)
        if not self._session.commands:
            self._leave_place()
        if result is not None:
            self._signal(result)
        if self._watch is not None:
            self._watch.tell()
        self._news.set()
        self._session.changed()

    def _serve_tools(self) -> None:
        self._tools.serve(self._session.state, self._session.traceparent())

    # ---- the provider -----------------------------------------------------------------------------------------

    def _leased(self) -> bool:
        return self._leases.lasts(self.key, self.epoch, self.claimed_at)

    def _provider(self) -> Provider:
        """The provider, to be taken for one call at once. Raises Fenced when the lease has run out.

        The provider knows no epochs: a process that stood still for longer than its lease could send what the next
        driver has sent already. Asked once more when the bytes are about to leave (see `under_lease`).
        """
        if not self._leased():
            raise Fenced(f"{self.key}: the lease ran out, somebody else may ask the provider")
        return self._needs.provider

    async def _feed(self) -> ProviderFeed:
        assert self._watch is not None, (
            "commands that need a feed are given after the session is bound"
        )
        return await self._watch.feed()

    async def _hear_out(self) -> None:
        if self._watch is not None:
            await self._watch.hear_out()

    def _keep_watch(self, *, fresh: bool, begun: bool = False) -> None:
        """Listen to the provider session there is now, if any; `fresh`: it was just made. At rest nobody begins to
        listen, but for a drive that has just begun."""
        state, bound_to = self._session.state, self._session.listens_to
        if self._watch is not None and self._watch.provider_session_id != bound_to:
            self._watch.cancel()
            self._watch = None
        wanted = begun or state.turn is not None or self._session.head.todo
        if self._watch is None and bound_to is not None and wanted:
            with under_lease(self._leased):  # who listens may be who asks the model
                self._watch = Watch(
                    self._session,
                    self._listen,
                    fresh=fresh,
                    inputs=self._inputs,
                    signal=self._signal,
                    start=self._start,
                    opening=self._needs.opening,
                )

    def _listen(self, fresh: bool) -> AbstractAsyncContextManager[ProviderFeed]:
        state, preview = self._session.state, self._preview
        return self._provider().watch(state, fresh=fresh, on_preview=preview)

    def _preview(self, raw: bytes) -> None:
        state = self._session.state
        self._hearing.hear(state, raw)
        self._needs.publisher.preview(state, raw, state.open_turn)

    # ---- beginning and ending ---------------------------------------------------------------------------------

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` beside the shell, at most until it lets go; the drive ends by raising what `work` raises."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken = error
            self._news.set()

    async def _cease(self) -> None:
        """End all that runs beside; commands under way stay among `commands`."""
        self._watch = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _release(self) -> None:
        """Give the session back, or forget it when it was erased and nothing is left to do."""
        head = replace(self._session.head, unsaid=(), todo=self._session.todo)
        if is_over(head):
            head = forgotten(head, await left_elsewhere(head.state, self._provider))
            self.released = True
            await self._needs.store.erase(head, again_at(head, self._needs.clock()))
        else:
            self.released = True
            await self._needs.store.release(head, self._due_at())

    def _due_at(self) -> str | None:
        """When another driver should take the session up; at once when it is let go of in mid-turn."""
        state = self._session.state
        works = state.turn and not state.awaits_people
        mid_turn = self._session.commands or (works and state.due_at is None)
        now = self._inputs.now()
        if mid_turn:
            return now
        later = self._session.put_off or self._deferred
        again = try_again_at(state, now, self._needs.chance()) if later else None
        if self._deferred:
            return again
        moments = (state.due_at, state.deadline_at, again)
        return min((at for at in moments if at is not None), default=None)
