"""What a session records: facts, numbered by `seq` without gaps. Public for ever: added to, never renamed.

Two kinds share one shape. Turnstile's own (`session.*` and `turn.*` below) carry data of ours; every other type is
the provider's and carries its JSON byte for byte. A `turn.*` event carries the turn *as it stands*, so that nobody
has to join events to know how a turn is doing.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from shared.session.resources import Resource

TurnStatus = Literal[
    "accepted", "running", "requires_action", "completed", "interrupted", "refused", "failed"
]
TURN_ENDS = frozenset({"turn.completed", "turn.interrupted", "turn.refused", "turn.failed"})
OWN_TYPES = frozenset(
    {
        "session.opened",
        "session.prewarmed",
        "session.prewarm_failed",
        "session.rotated",
        "session.idled",
        "session.archived",
        "session.erased",
        "session.parked",
        "session.unparked",
        "session.answer_refused",
        "session.charged",
        "session.budget_raised",
        "session.connection_made",
        "turn.accepted",
        "turn.reserved",
        "turn.started",
        "turn.retrying",
        "turn.requires_action",
        "turn.unanswered",
        "turn.stalled",
        "turn.overdue",
        *TURN_ENDS,
    }
)


class Event(Struct, frozen=True, kw_only=True):
    """One fact. `at` is when it happened (RFC 3339, UTC, microseconds); `turn_id` the turn it belongs to.

    `event_id` is the provider's id for its events and `<session_id>:<seq>` for ours. `thread_id` names the child
    thread whose log a provider event is from; `model` is set on model-request spans, `trace_id` is 32 hex or empty.
    """

    tenant_id: str
    session_id: str
    seq: int
    event_id: str
    type: str
    turn_id: str | None
    at: str
    user_id: str
    thread_id: str | None = None
    model: str | None = None
    trace_id: str = ""
    data: Raw


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens, as the provider counts them: `input_tokens` leaves cached ones out."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
        )

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens - other.input_tokens,
            output_tokens=self.output_tokens - other.output_tokens,
            cache_read_tokens=self.cache_read_tokens - other.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens - other.cache_write_tokens,
        )


class TurnError(Struct, frozen=True, kw_only=True):
    """Why a turn was refused or failed: a stable `type`, and words."""

    type: str
    message: str


class Turn(Struct, frozen=True, kw_only=True):
    """A turn as it stands; the data of every `turn.*` event. `cost_usd` is US dollars, times are RFC 3339.

    Times are by our own clocks and none is before the one it follows: `submitted_at` is when the gateway or the
    log had the request, whatever its publisher's clock says (that is the `at` of `turn.accepted`).
    `first_token_at` is when the first token delta came, by the worker's clock, known from the next `turn.*` event
    on; where no delta was seen, and until then, it is `first_output_at`: the first finished output of the agent
    (message, thought, tool call), by the provider's clock. Both are kept between start and end.

    `reply` is the text of the last `agent.message` of the primary thread, its text blocks joined by a newline;
    `partial_text`, of a turn that was interrupted, refused or failed while a message was in the making, what had
    come of that one, as far as the worker heard it. `evaluations`: those of the outcome that the turn asked for,
    oldest first. `deadline_at`: the turn is interrupted when it runs at that moment, and not sent when it waits; by
    our clocks. `resources`: those of its session, and without a `mount_path` the files that it names itself. All of
    these are absent where there is nothing to say.
    """

    turn_id: str
    user_id: str
    status: TurnStatus
    submitted_at: str
    started_at: str | None = None
    first_token_at: str | None = None
    first_output_at: str | None = None
    ended_at: str | None = None
    attempts: int = 0
    usage: Usage = Usage()
    cost_usd: float = 0.0
    tool_calls: int = 0
    stop_reason: str | None = None
    error: TurnError | None = None
    reply: str | None = None
    deadline_at: str | UnsetType = UNSET
    partial_text: str | UnsetType = UNSET
    evaluations: tuple[Evaluation, ...] | UnsetType = UNSET
    resources: tuple[Resource, ...] | UnsetType = UNSET


class Evaluation(Struct, frozen=True, kw_only=True):
    """What the provider's grader said of a turn's outcome, the `iteration`th time from 0: `result` is its word,
    `explanation` its reasons, cut after 4,096 characters."""

    outcome_id: str
    iteration: int
    result: str
    explanation: str
    at: str


class PendingAction(Struct, frozen=True, kw_only=True):
    """What waits for somebody: a tool call, whose `tool_use_id` is the provider's event id (`sevt_…`), or (kind
    `budget`) a turn of a session that has used its budget up, until somebody raises it, or (kind `connection`) a
    turn that an MCP server, its `name`, keeps from going on, until somebody connects it and confirms that: then
    `tool_use_id` is the id of the provider's `session.error`, and `input` has the type of the `error`."""

    tool_use_id: str
    kind: Literal["confirmation", "custom_tool", "budget", "connection"]
    name: str
    input: Raw
    since: str


class TurnAccepted(Turn, frozen=True, kw_only=True):
    """`turn.accepted`: with what was asked. `input_id` is the request's place in the inbox; until `gathers_until`
    the turn waits for others to go out with it. `behind`, of a turn that interrupts or may be coalesced: the turn
    that it waits behind; absent when it is taken up at once or goes out with the open turn. `traceparent` and
    `tracestate` are of the trace the turn goes on in; the latter absent when there is none."""

    content: Any
    input_id: str
    on_busy: str = "enqueue"
    traceparent: str = ""
    gathers_until: str | None = None
    behind: str | UnsetType = UNSET
    tracestate: str | UnsetType = UNSET


class TurnStarted(Turn, frozen=True, kw_only=True):
    """`turn.started`: an attempt begins on this provider session; in one message with the turn `joined`, if any.
    With `ledger` the session's cost is from here on what `session.charged` says; before there was one it was the
    provider's `list_cost`. `agent_version` is that of the agent the provider session was made with; absent where
    the provider did not say."""

    provider_session_id: str
    agent: str
    model: str
    joined: str | None = None
    ledger: bool | UnsetType = UNSET
    agent_version: int | UnsetType = UNSET


class TurnRetrying(Turn, frozen=True, kw_only=True):
    """`turn.retrying`: the attempt came to nothing; the next one is due at `retry_at`."""

    reason: str
    detail: str
    retry_at: str


class TurnRequiresAction(Turn, frozen=True, kw_only=True):
    """`turn.requires_action`: the agent waits for these answers; what is not answered by `answer_by` is denied."""

    pending_actions: tuple[PendingAction, ...]
    answer_by: str | None = None


class TurnUnanswered(Turn, frozen=True, kw_only=True):
    """`turn.unanswered`: nobody answered these in time; the agent is told that they are denied."""

    pending_actions: tuple[PendingAction, ...]


class TurnStalled(Turn, frozen=True, kw_only=True):
    """`turn.stalled`: the provider said nothing since `silent_since`; `action` is what is done about it:
    `interrupt` the agent and have it go on, or `rotate` to another provider session."""

    silent_since: str
    action: Literal["interrupt", "rotate"]


class TurnOverdue(Turn, frozen=True, kw_only=True):
    """`turn.overdue`: `deadline_at` has come while the agent had the turn; it is interrupted."""


class SessionOpened(Struct, frozen=True, kw_only=True):
    """`session.opened`: as it was asked for. `prewarm`: its provider session is being made before any turn, which
    ends in `session.prewarmed` or `session.prewarm_failed`; `resources`: what its provider sessions are made with;
    both are absent where nobody asked for that."""

    user_id: str
    agent: str | None = None
    title: str | None = None
    metadata: dict[str, str] | None = None
    budget_usd: float | None = None
    vault_ids: list[str] | None = None
    mode: str = "interactive"
    prewarm: bool | UnsetType = UNSET
    resources: tuple[Resource, ...] | UnsetType = UNSET


class SessionPrewarmed(Struct, frozen=True, kw_only=True):
    """`session.prewarmed`: the provider session for the first turn exists. Unless a turn comes first it is archived
    at `archive_at` (`session.archived` with the reason `idle`), which is absent when one has come already.
    `agent_version`: see `turn.started`."""

    provider_session_id: str
    agent: str
    model: str
    agent_version: int | UnsetType = UNSET
    archive_at: str | UnsetType = UNSET


class SessionPrewarmFailed(Struct, frozen=True, kw_only=True):
    """`session.prewarm_failed`: the session has no provider session ahead of its first turn, which makes one as
    usual. `reason` is a stable word: `prewarm_max`, the worker keeps as many as it may; `session_archived` and
    `session_erased`, it was closed first; others are the provider's."""

    reason: str
    detail: str


class SessionRotated(Struct, frozen=True, kw_only=True):
    """`session.rotated`: this provider session is of no more use; the next attempt gets a new one."""

    provider_session_id: str
    reason: str


class SessionIdled(Struct, frozen=True, kw_only=True):
    """`session.idled`: nothing runs, and nothing waits but for a parked turn; totals of the session so far.

    Said when the last turn has ended, and again once that is long ago, with `idle_since`, which is when it ended.
    Unless a turn comes first it is said again at `idle_at`, and the session is archived at `archive_at`; each is
    absent where it does not apply. With `retires` the provider session is given up, for that reason: the next turn
    goes on in another one.
    """

    last_turn_id: str
    usage: Usage
    cost_usd: float
    idle_since: str | UnsetType = UNSET
    idle_at: str | UnsetType = UNSET
    archive_at: str | UnsetType = UNSET
    retires: str | UnsetType = UNSET


class SessionParked(Struct, frozen=True, kw_only=True):
    """`session.parked`: this turn is a dead letter (`reason`), and turns that come later wait until it was redriven
    (`turn.accepted`) or dropped (`session.unparked`). Only where TURNSTILE_PARK_SESSIONS is set."""

    turn_id: str
    reason: str


class SessionUnparked(Struct, frozen=True, kw_only=True):
    """`session.unparked`: the dead letter of this turn was dropped; nothing waits for it any more."""

    turn_id: str


class SessionAnswerRefused(Struct, frozen=True, kw_only=True):
    """`session.answer_refused`: this answer (`input_id` is the request's place in the inbox, `input_type` what it
    was) came to nothing, because no call of this id waits for one like it: it was answered already, it is no longer
    asked, or never was. The session goes on as it was. `budget.raised` is refused in the same way, with the pause
    that it was meant for as `tool_use_id`, "" when there is none."""

    input_id: str
    input_type: Literal["tool.confirmed", "tool.answered", "budget.raised"]
    tool_use_id: str
    reason: str
    detail: str


class SessionBudgetRaised(Struct, frozen=True, kw_only=True):
    """`session.budget_raised`: the session may spend `budget_usd` in all from now on, at the provider too.
    `resumes` is the pending action that is settled by it, None when nothing waited."""

    budget_usd: float
    resumes: str | None = None


class SessionConnectionMade(Struct, frozen=True, kw_only=True):
    """`session.connection_made`: somebody confirmed the pending action `tool_use_id`: the agent can use the MCP
    server `server` again. The turn that waited is tried again once all its connections were made."""

    tool_use_id: str
    server: str


class Charge(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the ledger: `micro_usd` millionths of a US dollar for what the provider's event `source` told.

    `kind`: `request`, the tokens of a model request; `unseen`, tokens that the provider counts and no request told
    of (below zero: one has told of them since); `cache_hour`, what cache writes for an hour cost more than for five
    minutes; `running`, running time; `provider`, what the provider's own sum has more or less; `brought_forward`,
    all from before there was a ledger. `price` names the row of prices, or is `unknown`: then the money comes with
    a line `provider`. `estimate`: not all that it depends on was said."""

    kind: Literal["request", "unseen", "cache_hour", "running", "provider", "brought_forward"]
    micro_usd: int
    source: str = ""
    thread_id: str | None = None
    model: str = ""
    price: str = ""
    tokens: Usage = Usage()
    cache_hour_tokens: int = 0
    active_ms: int = 0
    estimate: bool = False


class SessionCharged(Struct, frozen=True, kw_only=True):
    """`session.charged`: what became known of the cost, for the turn that the event belongs to or for the session
    itself. Its lines are those of the ledger."""

    provider_session_id: str
    agent: str
    lines: tuple[Charge, ...]


class SessionClosed(Struct, frozen=True, kw_only=True):
    """`session.archived` and `session.erased`: no more turns are taken.

    But a session that was archived for the `reason` `idle` or `done` takes its next turn, and goes on with it in
    another provider session.
    """

    reason: str


# Why a session is archived that nobody asked to close: no turn came for long; a background one has its result.
IDLE, DONE = "idle", "done"
RESUMABLE = (IDLE, DONE)
# Why a session is not prewarmed where its worker keeps as many as it may.
PREWARM_MAX = "prewarm_max"


DATA: dict[str, type[Struct]] = {
    "session.opened": SessionOpened,
    "session.prewarmed": SessionPrewarmed,
    "session.prewarm_failed": SessionPrewarmFailed,
    "session.rotated": SessionRotated,
    "session.idled": SessionIdled,
    "session.archived": SessionClosed,
    "session.erased": SessionClosed,
    "session.parked": SessionParked,
    "session.unparked": SessionUnparked,
    "session.answer_refused": SessionAnswerRefused,
    "session.charged": SessionCharged,
    "session.budget_raised": SessionBudgetRaised,
    "session.connection_made": SessionConnectionMade,
    "turn.accepted": TurnAccepted,
    "turn.reserved": Turn,
    "turn.started": TurnStarted,
    "turn.retrying": TurnRetrying,
    "turn.requires_action": TurnRequiresAction,
    "turn.unanswered": TurnUnanswered,
    "turn.stalled": TurnStalled,
    "turn.overdue": TurnOverdue,
    "turn.completed": Turn,
    "turn.interrupted": Turn,
    "turn.refused": Turn,
    "turn.failed": Turn,
}


def read_event(value: bytes) -> Event:
    """The event in a record's value. Raises msgspec.ValidationError or msgspec.DecodeError naming the field."""
    return msgspec.json.decode(value, type=Event)
