"""The JSON bodies clients send. Unknown fields are refused and named."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from services.gateway.content import AnswerContent, Content
from shared.session.inputs import Id, Metadata, Mode, OnBusy

Name = Annotated[str, Meta(min_length=1, max_length=128)]


class _Body(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True): ...


class NewSession(_Body, frozen=True, kw_only=True):
    """POST /v1/sessions. Without a `session_id` one is made."""

    user_id: Id
    session_id: Id | None = None
    agent: Name | None = None
    title: Annotated[str, Meta(max_length=256)] | None = None
    metadata: Metadata | None = None
    budget_usd: Annotated[float, Meta(gt=0, le=1_000_000)] | None = None
    vault_ids: Annotated[list[Name], Meta(max_length=50)] | None = None
    mode: Mode = "interactive"


class NewTurn(_Body, frozen=True, kw_only=True):
    """POST …/turns. `turn_id` wins over the Idempotency-Key header as the turn's identity."""

    content: Content
    turn_id: Id | None = None
    on_busy: OnBusy = "enqueue"


class Confirmation(_Body, frozen=True, kw_only=True):
    """POST …/tool_confirmations. `tool_use_id` is the provider's event id, from `pending_actions`."""

    tool_use_id: Name
    result: Literal["allow", "deny"]
    deny_message: Annotated[str, Meta(max_length=10_000)] | None = None


class ToolResult(_Body, frozen=True, kw_only=True):
    """POST …/tool_results. `custom_tool_use_id` is the provider's event id, from `pending_actions`."""

    custom_tool_use_id: Name
    content: AnswerContent
    is_error: bool = False


class Nothing(_Body, frozen=True, kw_only=True):
    """Calls that need no body take an empty one or `{}`."""
