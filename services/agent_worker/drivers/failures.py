"""What the SDK raises, in the words of the port.

The one question that matters is whether a request may have landed. A 4xx with an answer did not (408 and 409 apart,
which gateways in between also send); everything that broke on the way, and every 5xx, may have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import anthropic
import httpx2

from services.agent_worker.ports import ProviderFailure

# Mid-stream failures reach us as raw transport errors, not as the SDK's (seen against SDK 2.11).
WIRE_ERRORS = (anthropic.APIError, httpx2.HTTPError, ValueError)

MAY_HAVE_LANDED = frozenset({408, 409})
# A request that is wrong stays wrong. 401, 402 and 403 are not here: a key or a bill is mended by people.
FINAL = frozenset({400, 405, 413, 422})


def may_have_landed(error: BaseException) -> bool:
    """Whether the request may have taken effect although it failed."""
    if isinstance(error, anthropic.APIStatusError):
        return error.status_code >= 500 or error.status_code in MAY_HAVE_LANDED
    return True


def failure(error: BaseException) -> ProviderFailure:
    """The port's failure for an error of the SDK or of the wire below it (`provider_unreachable`)."""
    if isinstance(error, ProviderFailure):
        return error
    if not isinstance(error, anthropic.APIStatusError):
        return ProviderFailure("provider_unreachable", type(error).__name__)
    return ProviderFailure(
        error.type or f"http_{error.status_code}",
        f"{error.status_code}: {_message(error)}",
        final=error.status_code in FINAL,
        lost=error.status_code == 404,
        retry_after=retry_after(error.response.headers),
    )


def _message(error: anthropic.APIStatusError) -> str:
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
