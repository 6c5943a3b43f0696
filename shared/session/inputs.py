"""What can happen to a session: requests from outside, and signals of the worker that drives it.

Requests travel on `turnstile.inputs.v1`; their field names are public for ever. Signals never leave the worker.
Unknown fields are refused so that a misspelt one is a clear error and not a silent default.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from shared.session.outcome import Outcome, block
from shared.session.resources import Resources

# `(?![\s\S])` and not `$`: Python's `$` also matches before a trailing newline.
Id = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9._:-]{1,128}(?![\s\S])", description="1-128 of A-Za-z0-9._:-")
]
Moment = Annotated[str, Meta(max_length=40, description="RFC 3339, with an offset")]
Verdict = Literal["allow", "deny"]
OnBusy = Literal["enqueue", "interrupt", "reject", "coalesce", "steer"]
Mode = Literal["interactive", "background"]
# The provider's limits: 16 pairs, keys up to 64 characters, values up to 512 (SDK docstring of sessions.create).
# Seconds that a turn may take from its acceptance on.
Deadline = Annotated[float, Meta(gt=0, le=86_400)]
Metadata = Annotated[
    dict[Annotated[str, Meta(min_length=1, max_length=64)], Annotated[str, Meta(max_length=512)]],
    Meta(max_length=16),
]
Name = Annotated[str, Meta(min_length=1, max_length=128)]
Title = Annotated[str, Meta(max_length=256)]
Budget = Annotated[float, Meta(gt=0, le=1_000_000)]
VaultIds = Annotated[list[Name], Meta(max_length=50)]
DenyMessage = Annotated[str, Meta(max_length=10_000)]
Text = Annotated[str, Meta(min_length=1)]
Block = dict[str, Any]
Blocks = Annotated[list[Block], Meta(min_length=1)]
Content = Text | Blocks


class Request(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every request says: whose session, and when it was asked (`at`, stamped by the publisher)."""

    tenant_id: Id
    session_id: Id
    at: Moment


class SessionRequested(Request, frozen=True, kw_only=True):
    """Open a session under an id the client chose; a repeat changes nothing. `prewarm`: make its provider session
    before the first turn, if there is room for it. `resources`: what each of its provider sessions is made with."""

    user_id: Id
    agent: Name | None = None
    title: Title | None = None
    metadata: Metadata | None = None
    budget_usd: Budget | None = None
    vault_ids: VaultIds | None = None
    mode: Mode = "interactive"
    prewarm: bool | UnsetType = UNSET
    resources: Resources | UnsetType | None = UNSET


class TurnRequested(Request, frozen=True, kw_only=True):
    """One user input. Opens the session when it is unknown. `turn_id` is its identity: twice is once. A turn that
    has not ended `deadline_seconds` after it was accepted is interrupted, or is not sent at all. It has a
    `content`, or an `outcome` in its place."""

    user_id: Id
    turn_id: Id
    content: Content | UnsetType = UNSET
    outcome: Outcome | UnsetType = UNSET
    on_busy: OnBusy = "enqueue"
    agent: Name | None = None
    mode: Mode = "interactive"
    deadline_seconds: Deadline | None = None

    @property
    def said(self) -> Any:
        """What the agent is told: a text, or blocks, of which an outcome is one."""
        return self.content if self.outcome is UNSET else [block(self.outcome)]


class InterruptRequested(Request, frozen=True, kw_only=True):
    """End the running turn; queued ones stay."""


class ToolConfirmed(Request, frozen=True, kw_only=True):
    """A person's verdict on a tool call that asked. `tool_use_id` is the provider's event id."""

    tool_use_id: Name
    result: Verdict
    deny_message: DenyMessage | None = None


class ToolAnswered(Request, frozen=True, kw_only=True):
    """The result of a custom tool that ran outside."""

    custom_tool_use_id: Name
    content: Content
    is_error: bool = False


class BudgetRaised(Request, frozen=True, kw_only=True):
    """The session may spend `budget_usd` in all: more than before. A turn that waits for it goes on."""

    budget_usd: Budget


class ArchiveRequested(Request, frozen=True, kw_only=True):
    """No more turns; the history stays."""


class EraseRequested(Request, frozen=True, kw_only=True):
    """Forget the session, at the provider too."""


class TurnDropped(Request, frozen=True, kw_only=True):
    """The dead letter of this turn was dropped: what waits for it need not."""

    turn_id: Id


class TurnParked(Request, frozen=True, kw_only=True):
    """A turn that nobody can use became a dead letter, and its session is to wait for it. Filed by the worker
    itself; nobody publishes it."""

    turn_id: Id
    user_id: str
    reason: str


REQUESTS: dict[str, type[Request]] = {
    "session.requested": SessionRequested,
    "turn.requested": TurnRequested,
    "interrupt.requested": InterruptRequested,
    "tool.confirmed": ToolConfirmed,
    "tool.answered": ToolAnswered,
    "budget.raised": BudgetRaised,
    "session.archive_requested": ArchiveRequested,
    "session.erase_requested": EraseRequested,
    "turn.dropped": TurnDropped,
}
PARKED = "turn.parked"


class Filed(Struct, frozen=True, kw_only=True):
    """A request as the worker filed it: `input_id` is unique per session, `traceparent` the text of
    a trace context (`shared.trace_context`), which may be empty.

    The request's `at` is its publisher's word; what it takes is measured from `received_at`, when we had it (see
    `admission.received`). `taken_at` is when its session's driver took it up, by the worker's clock. Both are ""
    where nobody says.
    """

    input_id: str
    request: Request
    traceparent: str = ""
    received_at: str = ""
    taken_at: str = ""


class ProviderEvent(Struct, frozen=True, kw_only=True):
    """One event of the provider, as it came: `raw` is its JSON, byte for byte.

    `at` is its `processed_at`, or the moment it was received when it has none; `thread_id` is the child thread
    whose own log it is from, None for the primary thread. `model` is the one that a child thread's request was
    made of, None where that is not known; requests of the primary thread are made of the session's.
    """

    id: str
    type: str
    at: str
    raw: bytes
    thread_id: str | None = None
    model: str | None = None


class Seen(Struct, frozen=True, kw_only=True):
    """Provider events in the order to be recorded; `at` is when the worker took them, `chance` in [0, 1).

    `provider_session_id`: whose they are. What comes of one that the session has left meanwhile is nothing of the
    next one's, and is not recorded. "": of the one there is.
    """

    events: tuple[ProviderEvent, ...]
    at: str
    chance: float = 0.0
    provider_session_id: str = ""


class Heard(Struct, frozen=True, kw_only=True):
    """What the worker knows of the open turn from token deltas, which are never recorded: that the first came then,
    by the worker's clock, and the text so far of the newest message, whose event will be `message_id`. It goes
    along with every input, and rides on the next `turn.*` event of that turn; the text only on the turn's end."""

    turn_id: str
    first_token_at: str
    message_id: str = ""
    text: str = ""


class Bound(Struct, frozen=True, kw_only=True):
    """The provider session for the open turn, or asked for before any, exists now (made, found or adopted).
    `agent_version`: 0 for one that nobody knows."""

    provider_session_id: str
    agent: str
    model: str
    at: str
    agent_version: int = 0


class Failed(Struct, frozen=True, kw_only=True):
    """The open turn could not be put to the provider; with a `turn_id` of "", no provider session could be made
    before any turn.

    `reason` is a stable word; `final` means trying again is useless; `lost` that the provider session is gone;
    `retry_after` is the provider's wish in seconds. `provider_session_id`: whose stream failed; that of one which
    the session has left means nothing. "": of the one there is, or of none.
    """

    turn_id: str
    reason: str
    detail: str
    at: str
    chance: float = 0.0
    final: bool = False
    lost: bool = False
    retry_after: float | None = None
    provider_session_id: str = ""


class DeadlineElapsed(Struct, frozen=True, kw_only=True):
    """The session's due time has come."""

    at: str


class Silent(Struct, frozen=True, kw_only=True):
    """The provider has said nothing since then, although its list was read and the session lives."""

    since: str
    at: str
    chance: float = 0.0


class NothingRan(Struct, frozen=True, kw_only=True):
    """An interrupt of the turn found nothing to stop: the turn waits for its next attempt."""

    turn_id: str
    at: str


class BudgetSet(Struct, frozen=True, kw_only=True):
    """The budget that the request `input_id` names holds at the provider. `pause` is the pending action that waited
    when it was asked for, "" for none."""

    input_id: str
    budget_usd: float
    pause: str
    at: str


class BudgetRefused(Struct, frozen=True, kw_only=True):
    """The provider does not take the budget of the request `input_id`, for the `reason`."""

    input_id: str
    reason: str
    detail: str
    at: str


Input = (
    Filed
    | Seen
    | Bound
    | Failed
    | DeadlineElapsed
    | Silent
    | NothingRan
    | BudgetSet
    | BudgetRefused
)


def read_request(kind: str, value: bytes) -> Request:
    """The request in a row of the inbox. Raises KeyError for an unknown kind, msgspec.ValidationError or
    msgspec.DecodeError (naming the field) for a wrong value."""
    shape = TurnParked if kind == PARKED else REQUESTS[kind]
    return msgspec.json.decode(value, type=shape)
