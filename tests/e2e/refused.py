"""Checks that a refusal is one that its reader can act on."""

from __future__ import annotations

import httpx2


def assert_refused(
    answer: httpx2.Response, status: int, word: str, field: str | None = None
) -> None:
    """A problem of RFC 9457 with that status and word, naming the field and saying why."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["type"]) == (status, f"urn:turnstile:problem:{word}")
    assert problem["title"]
    assert problem["detail"]
    if field is not None:
        assert [error["field"] for error in problem["errors"]] == [field]
        assert all(error["message"] for error in problem["errors"])
