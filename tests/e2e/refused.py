"""Checks that a refusal is one that its reader can act on."""

from __future__ import annotations

import json
from typing import Any

import httpx2


def assert_refused(
    answer: httpx2.Response, status: int, word: str, field: str | None = None
) -> None:
    """A problem of RFC 9457 with that status and word, naming the field and saying why."""
    problem = refusal(answer)
    assert (problem["status"], problem["type"]) == (status, f"urn:turnstile:problem:{word}")
    assert problem["title"]
    assert problem["detail"]
    if field is not None:
        assert [error["field"] for error in problem["errors"]] == [field]
        assert all(error["message"] for error in problem["errors"])


def refusal(answer: httpx2.Response) -> Any:
    """The problem that the answer is. A stream that could not find it out within a second, on a busy machine, is
    200 by then: the problem is its last event."""
    kind = answer.headers["content-type"]
    if answer.status_code == 200 and kind.startswith("text/event-stream"):
        name, _, data = answer.text.strip().rpartition("\n\n")[2].partition("\n")
        assert name == "event: error", answer.text
        return json.loads(data.removeprefix("data: "))
    assert kind == "application/problem+json", answer.text
    problem = answer.json()
    assert problem["status"] == answer.status_code
    return problem
