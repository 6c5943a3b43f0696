"""The table of the provider's answers, line by line; and what is an error of the wire at all."""

from __future__ import annotations

import json

import anthropic
import httpx2
import msgspec
import pytest

from services.agent_worker.governor.governor import Governor
from services.agent_worker.provider.client import CountingClient, NotAsked
from services.agent_worker.provider.failures import (
    WIRE_ERRORS,
    failure,
    may_have_landed,
    verdict,
)
from tests.fakes.tokens import MemoryTokens

pytestmark = pytest.mark.unit
URL = "http://provider/v1/sessions"
FINAL = (400, 404, 405, 410, 412, 413, 414, 415, 422, 431)
ACCOUNT = (401, 402, 403)
PASSES = (408, 409, 429, 499, 500, 501, 502, 503, 504, 529, 599)


def answered(status: int, *, code: str | None = None, typed: bool = True) -> anthropic.APIError:
    """What the SDK raises for an answer."""
    error: dict[str, object] = {"type": "some_error", "message": "words"}
    if code is not None:
        error["details"] = {"error_code": code}
    body = {"type": "error", "error": error} if typed else None
    response = httpx2.Response(status, request=httpx2.Request("POST", URL), json=body)
    client = anthropic.AsyncAnthropic(api_key="key")
    return client._make_status_error("words", body=body, response=response)


@pytest.mark.parametrize("status", FINAL)
def test_what_is_wrong_with_a_request_stays_wrong(status: int) -> None:
    failed = failure(answered(status))
    assert (failed.final, failed.lost) == (True, False)
    assert not may_have_landed(answered(status))


@pytest.mark.parametrize("status", ACCOUNT)
def test_what_people_must_mend_is_tried_again(status: int) -> None:
    failed = failure(answered(status))
    assert (failed.final, failed.lost) == (False, False)
    assert verdict(status) == "account"
    assert not may_have_landed(answered(status))


@pytest.mark.parametrize("status", PASSES)
def test_what_passes_is_tried_again(status: int) -> None:
    failed = failure(answered(status))
    assert (failed.final, failed.lost) == (False, False)
    assert verdict(status) == "passes"
    assert may_have_landed(answered(status)) == (status != 429)


@pytest.mark.parametrize(
    ("status", "code", "means"),
    [
        (400, "request_body_timeout", "passes"),
        (400, "organization_on_hold", "account"),
        (400, "organization_not_enrolled_in_beta", "account"),
        (400, "cmek_key_disabled", "account"),
        (400, "workspace_human_review_disabled", "account"),
        (429, "enforced_spend_limit_reached", "account"),
        (429, "contract_spend_limit_reached", "account"),
        (429, "ramp_limit_exceeded", "passes"),
        (400, "environment_archived", "final"),
        (400, "a_code_of_tomorrow", "final"),
        (403, "environment_create_disabled", "account"),
        (503, "cmek_key_unreachable", "passes"),
    ],
)
def test_a_code_says_more_than_the_status(status: int, code: str, means: str) -> None:
    assert verdict(status, code) == means
    assert failure(answered(status, code=code)).reason == code


def test_a_session_that_is_not_found_is_lost() -> None:
    failed = failure(answered(404), session=True)
    assert (failed.final, failed.lost) == (False, True)


@pytest.mark.parametrize("session", [False, True])
def test_a_404_of_something_in_between_says_nothing(session: bool) -> None:
    """A proxy that lost its way must not cost every conversation its session."""
    failed = failure(answered(404, typed=False), session=session)
    assert (failed.reason, failed.final, failed.lost) == ("http_404", False, False)


@pytest.mark.parametrize(
    "error",
    [
        httpx2.ReadTimeout("slow"),
        httpx2.RemoteProtocolError("cut"),
        anthropic.APIConnectionError(request=httpx2.Request("POST", URL)),
        json.JSONDecodeError("no", "x", 0),
        msgspec.DecodeError("no"),
        msgspec.ValidationError("no"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_breaks_on_the_wire_may_have_landed(error: Exception) -> None:
    assert isinstance(error, WIRE_ERRORS)
    assert may_have_landed(error)
    failed = failure(error)
    assert (failed.reason, failed.final, failed.lost) == ("provider_unreachable", False, False)


@pytest.mark.parametrize("error", [ValueError, KeyError, TypeError, AttributeError, RuntimeError])
def test_a_slip_of_ours_is_no_error_of_the_wire(error: type[Exception]) -> None:
    assert not issubclass(error, WIRE_ERRORS)


async def test_a_slip_before_a_request_is_no_broken_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The SDK takes everything that its HTTP client raises for one, and this client is ours."""

    async def admit(*_: object) -> None:
        raise TypeError("a slip in this code")

    governor = Governor(
        {}, lambda plan: MemoryTokens(plan, lambda: 0.0), patience=1.0, chance=lambda: 0.5
    )
    monkeypatch.setattr(governor, "admit", admit)
    http = CountingClient(transport=httpx2.MockTransport(_unasked), governor=governor)
    async with anthropic.AsyncAnthropic(api_key="key", max_retries=0, http_client=http) as client:
        with pytest.raises(NotAsked, match="a slip") as caught:
            await client.beta.sessions.create(agent="a", environment_id="e")
    assert not isinstance(caught.value, WIRE_ERRORS)


def _unasked(request: httpx2.Request) -> httpx2.Response:
    raise AssertionError("a request was made")
