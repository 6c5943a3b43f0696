"""What the provider's refusals mean: the one table of its answers, and the SDK's errors in the words of the port.

Whether the request may have landed: a 4xx with an answer did not (408, 409 and 499 apart, which gateways in
between also send); everything that broke on the way, and every 5xx, may have. Whether the same request is taken
later is in the table: what is wrong with the request stays wrong, what is wrong with the account is for people to
mend and is tried again meanwhile, and everything else passes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Literal

import anthropic
import httpx2
import msgspec
from anthropic import AsyncAnthropic

from services.agent_worker.ports import ProviderFailure
from shared import metrics

# What goes wrong on the wire, and nothing else: an error of our own must not pass for a request that may have
# landed. Mid-stream failures reach us as raw transport errors, not as the SDK's (seen against SDK 2.11); what can't
# be read as JSON was garbled on the way.
WIRE_ERRORS = (
    anthropic.APIError,
    httpx2.HTTPError,
    json.JSONDecodeError,
    msgspec.DecodeError,
    UnicodeDecodeError,
)

# `final`: the same request is refused for ever. `account`: all requests are, until a key, a bill or the
# organisation's settings are mended by people; tried again, and told in a metric. `passes`: may be taken later.
Verdict = Literal["final", "account", "passes"]

BY_STATUS: dict[int, Verdict] = {
    401: "account",
    402: "account",
    403: "account",
    408: "passes",
    409: "passes",
    429: "passes",
    499: "passes",
}
# Where `error.details.error_code` says more than the status does (the SDK's typed errors, 2.14).
BY_CODE: dict[str, Verdict] = {
    "request_body_timeout": "passes",
    "organization_on_hold": "account",
    "organization_not_enrolled_in_beta": "account",
    "organization_type_not_supported": "account",
    "cmek_key_disabled": "account",
    "cmek_key_network_blocked": "account",
    "enforced_spend_limit_reached": "account",
    "contract_spend_limit_reached": "account",
    "workspace_human_review_disabled": "account",
}
MAY_HAVE_LANDED = frozenset({408, 409, 499})


def verdict(status: int, code: str | None = None, *, typed: bool = True) -> Verdict:
    """What an answer of that status and `error_code` means for the request. `typed`: it carries the API's error
    document. A 404 without one is of something in between and says nothing of what was asked for."""
    if code in BY_CODE:
        return BY_CODE[code]
    if status == 404 and not typed:
        return "passes"
    return BY_STATUS.get(status, "final" if 400 <= status < 500 else "passes")


def may_have_landed(error: BaseException) -> bool:
    """Whether the request may have taken effect although it failed."""
    if isinstance(error, anthropic.APIStatusError):
        return error.status_code >= 500 or error.status_code in MAY_HAVE_LANDED
    return True


def failure(error: BaseException, *, session: bool = False) -> ProviderFailure:
    """The port's failure for an error of the SDK or of the wire below it (`provider_unreachable`). `session`: the
    request named a provider session and nothing else, so that what is not found is that session."""
    if isinstance(error, ProviderFailure):
        return error
    if not isinstance(error, anthropic.APIStatusError):
        return ProviderFailure("provider_unreachable", type(error).__name__)
    means = verdict(error.status_code, error.error_code, typed=error.type is not None)
    lost = session and error.status_code == 404 and means == "final"
    if means == "account":
        metrics.inc("turnstile_provider_account_refusals_total")
    return ProviderFailure(
        error.error_code or error.type or f"http_{error.status_code}",
        f"{error.status_code}: {words_of(error)}",
        final=means == "final" and not lost,
        lost=lost,
        retry_after=retry_after(error.response.headers),
    )


async def explained(
    client: AsyncAnthropic, session: str, error: BaseException, *, alone: bool = False
) -> ProviderFailure:
    """The failure of a request to a session. A refusal may be of what was sent, or mean that the session takes
    nothing any more; only the session itself tells which. `alone`: the request named nothing but the session."""
    refused = failure(error, session=alone)
    if not (refused.final or isinstance(error, anthropic.ConflictError)):
        return refused
    try:
        found = await client.beta.sessions.retrieve(session)
    except WIRE_ERRORS as lookup:
        return failure(lookup, session=True)
    if found.status == "terminated" or found.archived_at is not None:
        return ProviderFailure("session_lost", refused.detail, lost=True)
    if "waiting on responses" in refused.detail:
        refused.final = False
    return refused


def words_of(error: anthropic.APIStatusError) -> str:
    """The provider's words, cut: they may quote what was sent."""
    body = error.body
    inner = body.get("error") if isinstance(body, dict) else None
    words = inner.get("message") if isinstance(inner, dict) else None
    return str(words or "no message")[:300]


def retry_after(headers: Mapping[str, str]) -> float | None:
    """`Retry-After` in seconds; the HTTP-date form, and what is no time at all, are left to our own policy."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
