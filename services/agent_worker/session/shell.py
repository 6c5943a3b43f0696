"""The shell around the core, for one claimed session: **write** it, **say** it, **do** it, always in this order.

Every pass takes all inputs that have come (requests from the inbox, what the provider said, how commands ended),
lets the core decide on each, writes the row once with the new state, the events not yet said and the commands not
yet done, publishes the events, and only then starts the commands. So whatever instant the process dies at, the row
tells the next one what may not have been said and what may not have been done.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace

from services.agent_worker.leases import Leases
from services.agent_worker.ports import Feed, Head, Provider, Publisher, Store
from services.agent_worker.session import trace
from services.agent_worker.session.forget import again_at, forgotten, is_over, left_elsewhere
from services.agent_worker.session.perform import CommandTasks
from services.agent_worker.session.tools import Toolbox, WorkerTools
from services.agent_worker.session.trace import Attempts, Claim, TurnTrace
from services.agent_worker.session.watch import Watch
from shared.clock import Clock
from shared.errors import Fenced
from shared.moment import parse, rfc3339
from shared.session import decide
from shared.session.commands import AnyCommand
from shared.session.events import Event
from shared.session.inputs import DeadlineElapsed, Filed, Input, Silent
from shared.session.policy import Policy
from shared.session.state import SessionState
from shared.session.waiting import stalled_at, works


def patience(
    state: SessionState, now: str, heard_at: str, *, linger: float, policy: Policy
) -> float:
    """Seconds for which a session that asks nothing of anybody stays claimed: until an agent that works counts as
    stalled, until a moment that is near, and not at all for one that is far: the row wakes somebody then."""
    if state.status == "erased" and state.turn is None:
        return 0.0  # what is kept of it is forgotten when it is let go of
    if (stalled := stalled_at(state, policy, heard_at)) is not None:
        return max(0.0, _seconds(now, stalled))
    due = state.due_at
    if due is not None and (left := _seconds(now, due)) <= linger:
        return max(0.0, left)
    return linger if state.turn is None or state.awaits_people else 0.0


def waited_out(state: SessionState, now: str, heard_at: str, chance: float) -> list[Input]:
    """The inputs to decide on when nothing was heard since `heard_at`; none: the session can be let go of."""
    if state.due_at is not None and state.due_at <= now:
        return [DeadlineElapsed(at=now)]
    if works(state):
        return [Silent(since=heard_at, at=now, chance=chance)]
    return []


def _seconds(earlier: str, later: str) -> float:
    return (parse(later) - parse(earlier)).total_seconds()


MOST, LARGEST = 8, 4 * 1024


class Recent:
    """Up to `MOST` inputs of up to `LARGEST` bytes. A turn is mostly sent as soon as it was filed; a hundred that
    wait in line, or one of a megabyte, are not kept for each of thousands of sessions."""

    def __init__(self) -> None:
        self._inputs: OrderedDict[str, Filed] = OrderedDict()

    def add(self, filed: Filed) -> None:
        """Keep it, if it is small; the oldest goes."""
        if len(msgspec.json.encode(filed.request)) > LARGEST:
            return
        self._inputs[filed.input_id] = filed
        if len(self._inputs) > MOST:
            self._inputs.popitem(last=False)

    def get(self, input_id: str) -> Filed | None:
        """The input; None when it has to be read."""
        return self._inputs.get(input_id)


@dataclass(frozen=True, slots=True)
class Dependencies:
    """One process's. `chance` draws from [0, 1). `linger`: seconds an idle session stays claimed with its stream
    open, so that the next turn of a conversation starts at once. `opening`: seconds a stream may take. `tools`:
    those that it runs itself."""

    store: Store
    publisher: Publisher
    provider: Provider
    clock: Clock
    chance: Callable[[], float]
    policy: Policy = field(default_factory=Policy)
    linger: float = 5.0
    opening: float = 30.0
    attempts: Attempts = field(default_factory=Attempts)
    tools: Toolbox = field(default_factory=Toolbox)


class Shell:
    """Drives one session from claim to release. Use once. `released`: the lease was (or is being) given back;
    `claimed_at`: when it was asked for, by the monotonic clock of `leases`."""

    def __init__(self, head: Head, needs: Dependencies, leases: Leases, claimed_at: float) -> None:
        self.head = head
        self.claimed_at = claimed_at
        self._leases = leases
        self.released = False
        self._needs = needs
        claim = Claim.lately(head.epoch, leases.monotonic() - claimed_at, needs.clock())
        self._trace = TurnTrace(needs.attempts, claim)
        self._recent = Recent()
        self._signals: list[Input] = [DeadlineElapsed(at=self.now())]
        self._doing = CommandTasks(self, self._signal, self._did, self._leased)
        self._watch: Watch | None = None
        self._errands = WorkerTools(needs.tools, needs.store, self)
        self._news, self._moved = asyncio.Event(), asyncio.Event()
        self._poked, self._stopping = True, False
        self._heard_at = self.now()
        self._broken: BaseException | None = None

    async def run(self) -> None:
        """Drive until there is nothing to do, then release the session.

        Raises Fenced when it was taken over; whatever is raised, the row tells the next driver where to go on.
        """
        try:
            self._trace.resume(self.state, self._needs.clock())
            await self._say(self.head.unsaid, self.state)
            self._keep_watch(fresh=False)
            for command in self.head.todo:
                self._doing.start(command, resumed=True)
            self._errands.look()
            while inputs := await self._next():
                await self._advance(inputs)
            await self._cease()
            head = replace(self.head, unsaid=(), todo=self._doing.commands)
            if is_over(head):
                head = forgotten(head, await left_elsewhere(self))
                self.released = True
                await self._needs.store.erase(head, again_at(head, self._needs.clock()))
            else:
                self.released = True
                await self._needs.store.release(head, self._due_at())
        finally:
            self._trace.leave(self.state, self._needs.clock())
            await self._cease()

    def fail(self, error: BaseException) -> None:
        """End the drive by raising `error`."""
        self._broken = error
        self._news.set()

    def poke(self) -> None:
        """There may be new inputs in the inbox."""
        self._poked = True
        self._news.set()

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
            inputs = await self._unread() if self._poked else []
            # Last, with no wait from here to the write: the write strikes a command that has ended off the row, so
            # what came of it must be in the same one, or after a crash nobody would go on with the turn.
            inputs, self._signals = [*inputs, *self._signals], []
            if inputs:
                self._heard_at = self.now()
                return inputs
            try:
                async with asyncio.timeout(self._patience()):
                    await self._news.wait()
            except TimeoutError:
                if not self._news.is_set():
                    return self._waited_out()

    def _patience(self) -> float | None:
        """Seconds to wait for news; None: for ever, because something is being asked."""
        if self._stopping:
            return None if self._doing.asking or self._errands.busy else 0.0
        if self._doing.commands or self._errands.busy:
            return None
        linger, policy = self._needs.linger, self._needs.policy
        return patience(self.state, self.now(), self._heard_at, linger=linger, policy=policy)

    def _waited_out(self) -> list[Input]:
        since, self._heard_at = self._heard_at, self.now()
        found = waited_out(self.state, self._heard_at, since, self.chance())
        return [] if self._stopping else found

    def _due_at(self) -> str | None:
        """When another driver should take the session up; at once when it is let go of in mid-turn."""
        due, works = self.state.due_at, self.state.turn and not self.state.awaits_people
        return self.now() if self._doing.commands or (works and due is None) else due

    async def _unread(self) -> list[Input]:
        self._poked = False
        unread = await self._needs.store.unread(self.head.key, self.head.position)
        if not unread:
            return []
        for new in unread[-MOST:]:
            self._recent.add(new.filed)
        taken = self.head.taken + len(unread)
        self.head = replace(self.head, position=unread[-1].position, taken=taken)
        self._poked = len(unread) >= 1000  # the store's bound on one answer: there may be more
        return [replace(new.filed, taken_at=self.now()) for new in unread]

    # ---- write, say, do ---------------------------------------------------------------------------------------

    async def _advance(self, inputs: list[Input]) -> None:
        state, events, commands = self.state, list[Event](), list[AnyCommand]()
        for input in inputs:
            decision = decide(state, input, self._needs.policy)
            state = decision.state
            events += decision.events
            # What is being done already is not begun anew: a moment that has come may be heard of twice.
            known = (*self._doing.commands, *commands)
            commands += (command for command in decision.commands if command not in known)
        fresh = self.state.provider_session_id is None
        if events or commands or any(isinstance(input, Filed) for input in inputs):
            todo = (*self._doing.commands, *commands)
            head = replace(self.head, state=state, unsaid=tuple(events), todo=todo)
            before = self.state
            with self._trace.writing(before, state, len(events)):
                self.head = await self._needs.store.write(head)
            trace.recorded(events, before, state, self._needs.clock())
            self._keep_watch(fresh=fresh)
            self._trace.know(state)
            await self._say(events, before)
            self._trace.follow(events, state, self._needs.clock())
        for command in commands:
            self._doing.start(command, resumed=False)
        self._errands.look()
        if self._watch is not None:
            self._watch.taken()
        self._pulse()

    async def _say(self, events: Sequence[Event], before: SessionState) -> None:
        if events:
            with self._trace.saying(before, self.state, len(events)):
                await self._needs.publisher.say(events, self._trace.parent_of)

    def _pulse(self) -> None:
        """Wake those who wait in `until`, so that they look again."""
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def _did(self) -> None:
        """A command was done."""
        if self._watch is not None:
            self._watch.tell()
        self._news.set()
        self._pulse()

    def _keep_watch(self, *, fresh: bool) -> None:
        """Listen to the provider session there is now, if any."""
        session = self.state.provider_session_id
        if self._watch is not None and self._watch.session != session:
            self._watch.cancel()
            self._watch = None
        if self._watch is None and session is not None:
            self._watch = Watch(self, self._needs.opening, self._signal, fresh=fresh)

    async def _cease(self) -> None:
        """End the watch and the commands under way; those stay among `_doing.commands`."""
        tasks = [*self._doing.cancel(), *self._errands.cancel()]
        if self._watch is not None:
            tasks.append(self._watch.cancel())
            self._watch = None
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- what commands see of it ------------------------------------------------------------------------------

    @property
    def state(self) -> SessionState:
        """The session as it stands."""
        return self.head.state

    @property
    def provider(self) -> Provider:
        """The provider's driver, to be taken for one call at once. Raises Fenced when the lease has run out.

        The provider knows no epochs: a process that stood still for longer than its lease could send what the next
        driver has sent already. Asked once more when the bytes are about to leave (see `fencing`).
        """
        if not self._leased():
            raise Fenced(f"{self.head.key}: the lease ran out, somebody else may ask the provider")
        return self._needs.provider

    def _leased(self) -> bool:
        return self._leases.lasts(self.head.key, self.claimed_at)

    @property
    def publisher(self) -> Publisher:
        """The log's publisher."""
        return self._needs.publisher

    def now(self) -> str:
        """The worker's time, as events carry it."""
        return rfc3339(self._needs.clock())

    def chance(self) -> float:
        """A draw from [0, 1)."""
        return self._needs.chance()

    def traceparent(self) -> str:
        """Where spans of the open turn hang."""
        return self._trace.traceparent(self.state)

    async def filed(self, input_id: str) -> Filed:
        """An input of this session, taken in by this process or an earlier one."""
        known = self._recent.get(input_id)
        return known or await self._needs.store.read(self.head.key, input_id)

    async def feed(self) -> Feed:
        """The feed of the provider session. Raises ProviderFailure when it can't be had in time."""
        assert self._watch is not None, (
            "commands that need a feed are given after the session is bound"
        )
        return await self._watch.feed()

    def sending(self, turn_id: str) -> bool:
        """Whether the turn is on its way to the provider."""
        return self._doing.sending(turn_id)

    def interrupting(self, *, but: str) -> bool:
        """Whether an interrupt of another turn than `but` is on its way."""
        return self._doing.interrupting(but=but)

    async def until(self, holds: Callable[[SessionState], bool], seconds: float | None) -> bool:
        """Wait until the session is such that `holds`; returns False when `seconds` ran out first."""
        try:
            async with asyncio.timeout(seconds):
                while not holds(self.state):
                    await self._moved.wait()
        except TimeoutError:
            return False
        return True
