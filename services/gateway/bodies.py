"""The JSON bodies clients send. Unknown fields are refused and named."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from shared.session.content import AnswerContent, Content
from shared.session.inputs import (
    Budget,
    Deadline,
    DenyMessage,
    Id,
    Metadata,
    Mode,
    Name,
    OnBusy,
    Title,
    VaultIds,
    Verdict,
)
from shared.session.outcome import Outcome
from shared.session.resources import Resources


class _Body(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True): ...


class NewSession(_Body, frozen=True, kw_only=True):
    """POST /v1/sessions. Without a `session_id` one is made. `reuse`: answer the user's open session (`user_agent`:
    the one with this agent) if there is one, with 200, and open one only if there is none; left out, what the
    gateway is set to, unless a `session_id` is named. `prewarm`: make the provider session of a session that is
    opened now at once, and not with its first turn. `resources`: files, public repositories and memory stores, in
    the provider's own shape."""

    user_id: Id
    session_id: Id | None = None
    agent: Name | None = None
    title: Title | None = None
    metadata: Metadata | None = None
    budget_usd: Budget | None = None
    vault_ids: VaultIds | None = None
    resources: Resources | None = None
    mode: Mode = "interactive"
    reuse: Literal["user", "user_agent", "never"] | None = None
    prewarm: bool = False


class Prewarm(_Body, frozen=True, kw_only=True):
    """POST /v1/prewarm: what POST /v1/sessions with `prewarm` does, in short."""

    user_id: Id
    agent: Name | None = None


# JSON's numbers have no bounds; those of 64 bits are understood everywhere.
_Whole = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Preference = str | bool | _Whole | float


class Profile(_Body, frozen=True, kw_only=True):
    """PUT /v1/users/{user_id}/profile: all that is to be kept of the user, in place of what was. Each field may
    have 8,192 bytes as JSON."""

    preferences: dict[Annotated[str, Meta(min_length=1, max_length=128)], _Preference] = {}
    facts: list[Annotated[str, Meta(min_length=1)]] = []


class NewTurn(_Body, frozen=True, kw_only=True):
    """POST …/turns. Under an Idempotency-Key the turn is that of the first request with that key, whatever
    `turn_id` a later one names. A turn that has not ended `deadline_seconds` after it was accepted is interrupted,
    or not sent at all, with `error.type` `deadline_exceeded`. An `outcome` stands in place of `content`: what is
    to be there in the end, and how it is judged."""

    content: Content | UnsetType = UNSET
    outcome: Outcome | UnsetType = UNSET
    turn_id: Id | None = None
    on_busy: OnBusy = "enqueue"
    deadline_seconds: Deadline | None = None


class Confirmation(_Body, frozen=True, kw_only=True):
    """POST …/tool_confirmations. `tool_use_id` is the provider's event id, from `pending_actions`."""

    tool_use_id: Name
    result: Verdict
    deny_message: DenyMessage | None = None


class ToolResult(_Body, frozen=True, kw_only=True):
    """POST …/tool_results. `custom_tool_use_id` is the provider's event id, from `pending_actions`."""

    custom_tool_use_id: Name
    content: AnswerContent
    is_error: bool = False


class NewBudget(_Body, frozen=True, kw_only=True):
    """PUT …/budget. US dollars that the session may spend in all, more than before."""

    budget_usd: Budget


class Nothing(_Body, frozen=True, kw_only=True):
    """Calls that need no body take an empty one or `{}`."""
