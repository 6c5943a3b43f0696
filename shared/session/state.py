"""What is known of a session after some of its events: small, whatever the session's age.

Nothing in here grows with the number of events: ids are kept for the newest ones only (`TAIL`), sums are sums.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct

from shared.session.events import PendingAction, Turn, Usage
from shared.session.ledger import Ledger, Spent
from shared.session.resources import Resource

# `dormant`: archived for want of turns; the next one is taken, and goes on in another provider session.
SessionStatus = Literal[
    "new", "idle", "running", "requires_action", "dormant", "archived", "erased"
]

PublicStatus = Literal["idle", "running", "requires_action", "archived", "erased"]

# A provider session is being made before any turn; that came to nothing, and perhaps left one behind.
OPENING, FAILED = "opening", "failed"

# What takes no more turns.
CLOSED = ("archived", "erased")

# How many provider ids are kept per thread to tell news from repeats. The provider's list was seen to differ from
# the stream's order by a few places only; 64 leaves an order of magnitude.
TAIL = 64

# How many ids of user messages are kept, so that a message of an earlier turn or attempt is never taken for the one
# that is being sent. A look-up walks the newest messages down to the first of these.
PROMPTS = 16

# How many provider sessions that were given up are kept: one may live on, and looks like what a crash left behind.
GIVEN_UP = 16


# How many calls of the agent's without a result are kept, and how many ids of such that were answered: an idle may
# name them once more.
CALLS, ANSWERED = 64, 64


class Call(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call of the agent's that has no result yet and waits for nobody, as far as was said. `since` is when it was
    made, or confirmed; `thread_id` whose it is (None: the primary thread's). `kind` is who answers it should an
    idle name it; `input` is empty for one that is allowed."""

    tool_use_id: str
    kind: Literal["confirmation", "custom_tool"]
    name: str
    since: str
    input: Raw = Raw(b"{}")
    thread_id: str | None = None


# How far a turn is that steers the open one: it is to; its message is on its way, or waits at the provider; the
# agent has it, and the turn ends with the open one.
Steering = Literal["", "wanted", "sent", "taken"]


class Unconnected(Struct, frozen=True, kw_only=True):
    """An MCP server that the agent can't use. `error_id` is the provider's event that said so, `error` its type."""

    server: str
    error_id: str
    error: str


class Queued(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A turn that waits for the one before it, or (`coalesce`) goes out in one message with its neighbours, or
    (`steer`) in a message of its own into the turn that runs.
    `prompt` is the fingerprint of its content. `parked`: the turn is a dead letter, and keeps this place."""

    turn: Turn
    input_id: str
    traceparent: str = ""
    coalesce: bool = False
    prompt: str = ""
    parked: bool = False
    steer: Steering = ""


class Progress(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far the open turn is, beyond what its `turn.*` events tell.

    `prompted`: the provider took the message up. `exhausted`: the provider gave up and flushed its queue.
    `failures` counts attempts that failed since `failing_since`, and the one that `sent_before` tells of;
    `retry_at` is when the next is due. `riders` are turns that go out in the same message, which is not sent before
    `gathers_until`, or that steer this one. `answer_by`: what waits for
    people is denied then. `stalls` counts silences; `nudged`: the agent was interrupted for one, and goes on with a
    word about it instead of the turn's message; `told`: it was sent. `stray`: the agent answers a message of
    somebody else, sent before the turn's own, whose fingerprint is `prompt`. `finished`: the primary thread came to
    its end, whatever the session's idle says. `reserved`: money is set aside for it under a cap; `held_since`: it
    waits for some to be left. `overdue`: its deadline has come, and it is being interrupted. `sent_before`:
    its message went into the turn before it, and was not seen to be taken up: the agent may be at work on it.
    `unconnected`: MCP servers that failed since the agent last asked its model; `reconnected`: those that somebody
    connected for it since the provider session began.
    """

    input_id: str
    traceparent: str = ""
    cost_base_cents: int = 0
    prompted: bool = False
    interrupted: bool = False
    exhausted: bool = False
    failures: int = 0
    failing_since: str | None = None
    retry_at: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    announced: frozenset[str] = frozenset()
    riders: tuple[Queued, ...] = ()
    gathers_until: str | None = None
    answer_by: str | None = None
    stalls: int = 0
    nudged: bool = False
    told: bool = False
    prompt: str = ""
    stray: bool = False
    finished: bool = False
    overdue: bool = False
    reserved: bool = False
    held_since: str | None = None
    sent_before: bool = False
    unconnected: tuple[Unconnected, ...] = ()
    reconnected: frozenset[str] = frozenset()

    @property
    def to_be_told(self) -> bool:
        """Whether the agent was interrupted for its silence and has not been told to go on yet."""
        return self.nudged and not self.told

    def expects(self, prompt: str) -> bool:
        """Whether a message with this fingerprint may be what was sent for the turn."""
        ours = self.carried[-1].prompt if self.carried else self.prompt
        return self.nudged or "" in (ours, prompt) or prompt == ours

    @property
    def carried(self) -> tuple[Queued, ...]:
        """The riders whose content is in the turn's own message."""
        return tuple(rider for rider in self.riders if not rider.steer)

    @property
    def steering(self) -> Queued | None:
        """The rider whose own message was sent and not seen to be taken up yet: one at a time."""
        return next((rider for rider in self.riders if rider.steer == "sent"), None)


class Rest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What comes while no turn is open, `since` the end of the turn `last_turn_id`: the session is idle at
    `idle_at`, its provider session archived at `archive_at`."""

    last_turn_id: str
    since: str
    idle_at: str | None = None
    archive_at: str | None = None

    @property
    def due_at(self) -> str | None:
        """When the next of it comes."""
        both = (self.idle_at, self.archive_at)
        return min((at for at in both if at is not None), default=None)


class Retired(Struct, frozen=True, kw_only=True):
    """The provider session is not to be used again, since `at`: the next turn goes on in another one. `reason` is a
    stable word: `idle`, `done` or `length`."""

    reason: str
    at: str


class Length(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a provider session has come: turns that ended in it, and how often its context was compacted."""

    turns: int = 0
    compactions: int = 0


class SessionState(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A session. `last_seq` is the number of its newest event, 0 before the first; `rotated_from` the provider
    session that the conversation came from, until the new one has heard of it; `given_up` those that are of no more
    use, newest last; `pending` what waits for somebody, `calls` what runs at the provider or may yet ask.
    `cost_cents` is what all provider sessions said that they cost; those that were given up said `rotated_cents`,
    and may have cost up to `unsure_cents` more. `ledger` is what the session cost by its lines, None before it had
    any; `unsettled` are model requests without one. `at_budget`: the provider session has used its budget up and
    takes no message until somebody raises it. `prewarm`: `opening` while a provider session is being made before
    any turn, `failed` after that came to nothing and until a turn has started."""

    tenant_id: str
    session_id: str
    user_id: str = ""
    agent: str | None = None
    title: str | None = None
    metadata: dict[str, str] | None = None
    budget_usd: float | None = None
    vault_ids: list[str] | None = None
    resources: tuple[Resource, ...] = ()
    mode: str = "interactive"
    status: SessionStatus = "new"
    last_seq: int = 0
    opened_at: str | None = None
    provider_session_id: str | None = None
    prewarm: Literal["", "opening", "failed"] = ""
    rotated_from: str | None = None
    given_up: tuple[str, ...] = ()
    bound_agent: str | None = None
    bound_version: int = 0
    model: str | None = None
    turn: Turn | None = None
    progress: Progress | None = None
    queue: tuple[Queued, ...] = ()
    pending: tuple[PendingAction, ...] = ()
    calls: tuple[Call, ...] = ()
    answered: tuple[str, ...] = ()
    usage: Usage = Usage()
    cost_cents: int = 0
    rotated_cents: int = 0
    unsure_cents: int = 0
    rest: Rest | None = None
    retired: Retired | None = None
    length: Length = Length()
    ledger: Ledger | None = None
    unsettled: tuple[Spent, ...] = ()
    at_budget: bool = False
    prompts: tuple[str, ...] = ()
    tail: tuple[str, ...] = ()
    threads: dict[str, tuple[str, ...]] = {}

    def knows(self, event_id: str) -> bool:
        """Whether this provider event was recorded lately, from whichever thread."""
        return event_id in self.tail or any(event_id in tail for tail in self.threads.values())

    @property
    def open_turn(self) -> str | None:
        """Id of the turn that is being worked on."""
        return self.turn.turn_id if self.turn else None

    @property
    def public_status(self) -> PublicStatus:
        """The status by the words that clients know."""
        match self.status:
            case "new":
                return "idle"
            case "dormant":
                return "archived"
            case status:
                return status

    @property
    def failures(self) -> int:
        """How many attempts of the open turn failed."""
        return self.progress.failures if self.progress else 0

    @property
    def riders(self) -> tuple[Queued, ...]:
        """Turns that go out in one message with the open one, or steer it."""
        return self.progress.riders if self.progress else ()

    @property
    def steering(self) -> Queued | None:
        """The turn whose message is on its way into the open one."""
        return self.progress.steering if self.progress else None

    @property
    def takes_steering(self) -> bool:
        """Whether the agent is at work on the open turn's message, and takes another in meanwhile."""
        progress = self.progress
        if progress is None or self.provider_session_id is None or self.status != "running":
            return False
        if self.pending or self.at_budget or self.retired is not None:
            return False
        ends = progress.finished or progress.interrupted or progress.exhausted or progress.overdue
        ends = ends or bool(progress.unconnected)  # what comes behind the error tells
        return progress.prompted and not (ends or progress.stray or progress.nudged)

    def parks(self, turn_id: str) -> bool:
        """Whether this turn is a dead letter that later turns wait for."""
        return any(queued.parked and queued.turn.turn_id == turn_id for queued in self.queue)

    @property
    def awaits_people(self) -> bool:
        """Whether the open turn goes on only when somebody answers."""
        asks = self.turn is not None and self.turn.status == "requires_action"
        return asks and bool(self.pending)

    @property
    def budget_pause(self) -> PendingAction | None:
        """What waits for the budget to be raised."""
        return next((action for action in self.pending if action.kind == "budget"), None)

    @property
    def connection_pauses(self) -> tuple[PendingAction, ...]:
        """What waits for MCP servers to be connected."""
        return tuple(action for action in self.pending if action.kind == "connection")

    @property
    def begun(self) -> bool:
        """Whether an attempt of the open turn was made: before that, nothing the provider says is about it."""
        return self.turn is not None and self.turn.started_at is not None

    @property
    def may_adopt(self) -> bool:
        """Whether a provider session that nobody recorded may be this session's yet."""
        return self.turn is not None or self.prewarm == OPENING

    @property
    def gathering(self) -> bool:
        """Whether the open turn still waits for others to go out with it."""
        return self.progress is not None and self.progress.gathers_until is not None

    @property
    def cost_usd(self) -> float:
        """US dollars so far, tokens and running time, by the ledger; before there was one, `billed_usd`."""
        return self.billed_usd if self.ledger is None else self.ledger.micro_usd / 1e6

    @property
    def billed_usd(self) -> float:
        """US dollars so far by the provider's own figure, which is in nearest cents for each provider session."""
        return self.cost_cents / 100

    @property
    def budget_left(self) -> int | None:
        """US cents of `budget_usd` that a new provider session may spend, at least 0; None: as many as it likes.
        What those before it cost is counted as high as it may have been."""
        if self.budget_usd is None:
            return None
        return max(0, _cents(self.budget_usd) - self.cost_cents - self.unsure_cents)

    def allowance(self, budget_usd: float) -> int:
        """US cents that the present provider session may spend of such a budget since it began."""
        return _cents(budget_usd) - self.rotated_cents - self.unsure_cents

    @property
    def consumed(self) -> int:
        """US cents that the present provider session has told it has cost."""
        return self.cost_cents - self.rotated_cents

    @property
    def deadline_at(self) -> str | None:
        """The next deadline of a turn, whether it runs or waits; None: there is none."""
        waiting = [queued.turn for queued in self.queue if not queued.parked]
        if self.turn is not None and self.progress is not None and not self.progress.overdue:
            waiting.append(self.turn)
        deadlines = (turn.deadline_at for turn in waiting if turn.deadline_at is not UNSET)
        return min(deadlines, default=None)

    @property
    def due_at(self) -> str | None:
        """When the session wants to be looked at again without any input; None: not before one."""
        if self.progress is None:
            return self.rest.due_at if self.rest else None
        answer_by = self.progress.answer_by if self.awaits_people else None
        waits = (self.progress.retry_at, self.progress.gathers_until, answer_by)
        return min((moment for moment in waits if moment is not None), default=None)


def _cents(usd: float) -> int:
    return int(Decimal(str(usd)) * 100)


def initial(tenant_id: str, session_id: str) -> SessionState:
    """A session of which nothing is known."""
    return SessionState(tenant_id=tenant_id, session_id=session_id)


def encode(state: SessionState) -> bytes:
    """A state as the head row keeps it."""
    return msgspec.json.encode(state)


def decode(data: bytes) -> SessionState:
    """The state of a head row."""
    return msgspec.json.decode(data, type=SessionState)
