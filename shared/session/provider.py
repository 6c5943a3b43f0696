"""Reading the provider's JSON: one small decoder for each purpose, taking only the fields it needs.

Shapes: the SDK's `types/beta/sessions`, and what was seen on the wire. Nothing here fails on a JSON object,
whatever is in it: what is missing, unknown or of another shape comes back as its default, because events of a newer
API must still fold, and one that can't be folded would hold up its session for ever.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from shared.session.events import Evaluation, Usage
from shared.session.lenient import read

NOTHING = Raw(b"{}")
# The agent can't use an MCP server: it takes no credential (there is none, it is no good, it could not be
# refreshed), or it can't be reached.
UNAUTHENTICATED = "mcp_authentication_failed_error"
UNCONNECTED = frozenset({UNAUTHENTICATED, "mcp_connection_failed_error"})
# So begin the ids of provider sessions that are kept by the worker itself, on the Messages API.
CONVERSATION = "conv_"
# By these the agent is told what a turn says.
TELLING = frozenset({"user.message", "user.define_outcome"})
# Bytes of an unfamiliar event without an `input` that are shown in its stead.
SHOWN = 16 * 1024


class Head(Struct, frozen=True):
    """What every event has. `processed_at` is missing on user events that are still queued."""

    id: str = ""
    type: str = ""
    processed_at: str | None = None


class _Text(Struct, frozen=True):
    type: str = ""
    text: str = ""


class _Message(Struct, frozen=True):
    content: list[_Text] = []


Asks = Literal["yes", "no", "denied", "unsaid"]


class ToolUse(Struct, frozen=True):
    """`kind` is who answers the call where it waits; `asks` whether it does, by its own word: "unsaid" leaves
    that to the idle."""

    kind: Literal["confirmation", "custom_tool"]
    asks: Asks
    name: str
    input: Raw


class _Judged(Struct, frozen=True):
    type: str | None = None


class _Evaluation(Struct, frozen=True):
    type: str | None = None
    evaluated_permission: _Judged = _Judged()


class _ToolUse(Struct, frozen=True):
    type: str = ""
    name: str = ""
    input: Raw = Raw()
    evaluated_permission: str | None = None
    evaluation: _Evaluation = _Evaluation()


class _Answer(Struct, frozen=True):
    tool_use_id: str | None = None
    custom_tool_use_id: str | None = None
    mcp_tool_use_id: str | None = None


class _Result(Struct, frozen=True):
    is_error: bool | None = None


class _ModelUsage(Struct, frozen=True):
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0


class _SpanEnd(Struct, frozen=True):
    model_usage: _ModelUsage = _ModelUsage()


class _Money(Struct, frozen=True):
    amount: str = ""


class _CacheWrites(Struct, frozen=True):
    ephemeral_5m_input_tokens: int = 0
    ephemeral_1h_input_tokens: int = 0


class _UsageBody(Struct, frozen=True):
    list_cost: _Money | None = None
    input_tokens: int | None = None
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation: _CacheWrites = _CacheWrites()
    active_seconds: float | None = None


class _SessionUsage(Struct, frozen=True):
    usage: _UsageBody = _UsageBody()


class Account(Struct, frozen=True):
    """What the provider session has cost and used since it began; None where the provider does not say. `cents` are
    US cents with running time, `cache_hour` those of the tokens that were written to the cache for an hour."""

    cents: int | None = None
    tokens: Usage | None = None
    cache_hour: int = 0
    active_ms: int | None = None


class StopReason(Struct, frozen=True):
    """Why the session went idle; `event_ids` names tool calls when `type` is `requires_action`."""

    type: str = "unknown"
    event_ids: list[str] = []


class _Idle(Struct, frozen=True):
    stop_reason: StopReason = StopReason()


class _Updated(Struct, frozen=True):
    budget: Raw | UnsetType = UNSET


class _RetryStatus(Struct, frozen=True):
    type: str = ""


class _ErrorBody(Struct, frozen=True):
    type: str = "unknown_error"
    message: str = ""
    mcp_server_name: str = ""
    retry_status: _RetryStatus = _RetryStatus()


class _SessionError(Struct, frozen=True):
    error: _ErrorBody = _ErrorBody()


class SessionError(Struct, frozen=True):
    """A `session.error`: `retry_status` is `retrying`, `exhausted`, `terminal` or something newer; `server` the MCP
    server that it is about, "" for any other error."""

    type: str
    message: str
    retry_status: str
    server: str = ""


class _Thread(Struct, frozen=True):
    session_thread_id: str | None = None


class _Evaluated(Struct, frozen=True):
    outcome_id: str = ""
    iteration: int = 0
    result: str = ""
    explanation: str = ""


class _RunEnd(Struct, frozen=True):
    type: str = ""


class _Run(Struct, frozen=True):
    workflow_run_id: str | None = None
    result: _RunEnd = _RunEnd()


_message = msgspec.json.Decoder(_Message)
_tool_use = msgspec.json.Decoder(_ToolUse)
_result = msgspec.json.Decoder(_Result)
_answer = msgspec.json.Decoder(_Answer)
_span_end = msgspec.json.Decoder(_SpanEnd)
_usage = msgspec.json.Decoder(_SessionUsage)
_idle = msgspec.json.Decoder(_Idle)
_updated = msgspec.json.Decoder(_Updated)
_error = msgspec.json.Decoder(_SessionError)
_thread = msgspec.json.Decoder(_Thread)
_evaluation_end = msgspec.json.Decoder(_Evaluated)
_run = msgspec.json.Decoder(_Run)
_head = msgspec.json.Decoder(Head)


def head(raw: bytes | Raw) -> Head:
    """Id, type and time. Raises msgspec.DecodeError when `raw` is no JSON object."""
    return read(_head, raw)


def text_of(raw: bytes | Raw) -> str:
    """The text blocks of a message, joined by a newline."""
    return "\n".join(block.text for block in read(_message, raw).content if block.type == "text")


def tool_use(raw: bytes | Raw) -> ToolUse:
    """What a tool call is and whether it asks. A permission this code does not know asks: fail closed."""
    use = read(_tool_use, raw)
    custom = use.type == "agent.custom_tool_use"
    return ToolUse(
        kind="custom_tool" if custom else "confirmation",
        asks="yes" if custom else _asks(use.evaluated_permission or _evaluated(use.evaluation)),
        name=use.name,
        input=use.input if len(use.input) else NOTHING,
    )


def _evaluated(evaluation: _Evaluation) -> str | None:
    """The permission that results from an evaluation, in the words of `evaluated_permission`."""
    if evaluation.type == "auto":
        return evaluation.evaluated_permission.type
    return {"always_allow": "allow", "always_ask": "ask"}.get(evaluation.type or "")


def _asks(permission: str | None) -> Asks:
    if permission is None:
        return "unsaid"
    return {"allow": "no", "deny": "denied"}.get(permission, "yes")  # type: ignore[return-value]


def unfamiliar(raw: bytes | Raw) -> ToolUse:
    """An event of a type this code does not know, as the call that it may be: a person has to see what it is."""
    use = read(_tool_use, raw)
    shown = use.input
    if not len(shown):
        shown = Raw(bytes(raw)) if len(raw) <= SHOWN else NOTHING
    return ToolUse(kind="confirmation", asks="unsaid", name=use.name or use.type, input=shown)


def answered(raw: bytes | Raw) -> str | None:
    """Event id of the tool call that an answer or a result is for."""
    answer = read(_answer, raw)
    return answer.tool_use_id or answer.custom_tool_use_id or answer.mcp_tool_use_id


def is_error(raw: bytes | Raw) -> bool:
    """Whether a tool's result is a failure."""
    return bool(read(_result, raw).is_error)


def model_usage(raw: bytes | Raw) -> Usage:
    """Tokens of one model request (`span.model_request_end`)."""
    usage = read(_span_end, raw).model_usage
    return Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_input_tokens,
        cache_write_tokens=usage.cache_creation_input_tokens,
    )


# More of anything than a provider session can have: what is above it is not meant.
_ABSURD = 10**12


def account(raw: bytes | Raw) -> Account:
    """The account in `session.usage`."""
    usage = read(_usage, raw).usage
    writes = usage.cache_creation
    tokens = None
    if usage.input_tokens is not None:
        tokens = Usage(
            input_tokens=_sane(usage.input_tokens),
            output_tokens=_sane(usage.output_tokens),
            cache_read_tokens=_sane(usage.cache_read_input_tokens),
            cache_write_tokens=_sane(writes.ephemeral_5m_input_tokens)
            + _sane(writes.ephemeral_1h_input_tokens),
        )
    seconds = usage.active_seconds
    active = None if seconds is None or not 0 <= seconds < _ABSURD else round(seconds * 1000)
    return Account(
        cents=_cents(usage.list_cost),
        tokens=tokens,
        cache_hour=_sane(writes.ephemeral_1h_input_tokens),
        active_ms=active,
    )


def _cents(cost: _Money | None) -> int | None:
    return int(cost.amount) if cost and re.fullmatch(r"[0-9]{1,12}", cost.amount) else None


def _sane(count: int) -> int:
    return count if 0 <= count < _ABSURD else 0


def stop_reason(raw: bytes | Raw) -> StopReason:
    """Why `session.status_idle` came."""
    return read(_idle, raw).stop_reason


def tells_budget(raw: bytes | Raw) -> bool:
    """Whether `session.updated` is of the budget."""
    return read(_updated, raw).budget is not UNSET


def error(raw: bytes | Raw) -> SessionError:
    """What `session.error` says."""
    body = read(_error, raw).error
    return SessionError(
        type=body.type,
        message=body.message,
        retry_status=body.retry_status.type,
        server=body.mcp_server_name if body.type in UNCONNECTED else "",
    )


def thread_of(raw: bytes | Raw) -> str | None:
    """The child thread an event speaks of."""
    return read(_thread, raw).session_thread_id


# Characters kept of a grader's reasons.
MOST_REASONS = 4_096


def evaluation(raw: bytes | Raw, at: str) -> Evaluation:
    """What `span.outcome_evaluation_end`, which came at `at`, says of an outcome."""
    found = read(_evaluation_end, raw)
    return Evaluation(
        outcome_id=found.outcome_id,
        iteration=found.iteration,
        result=found.result,
        explanation=found.explanation[:MOST_REASONS],
        at=at,
    )


def verdict(raw: bytes | Raw) -> str:
    """What came of `span.outcome_evaluation_end`."""
    return read(_evaluation_end, raw).result


def run_result(raw: bytes | Raw) -> str:
    """How `workflow_run.status_ended` says that the run ended."""
    return read(_run, raw).result.type


def run_of(raw: bytes | Raw) -> str:
    """The workflow run an event speaks of; empty for an error that kept one from being created."""
    return read(_run, raw).workflow_run_id or ""
