"""Times as text."""

from __future__ import annotations

import pytest

from shared.moment import normal, parse, rfc3339

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21T10:00:00.123456Z",
        "2026-11-21T10:00:00Z",
        "2026-11-21T10:00:00.123Z",
        "2026-11-21T12:00:00.123456+02:00",
        "2026-11-21 10:00:00.123456Z",
        "2026-11-21T10:00:00,123456Z",
        "2026-W47-6T10:00:00.123456Z",
        "20261121T100000.123456Z",
    ],
)
def test_every_form_of_a_moment_becomes_one(text: str) -> None:
    assert normal(text) == rfc3339(parse(text))
    assert normal(text) == f"2026-11-21T10:00:00{normal(text)[19:26]}Z"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2026-13-21T10:00:00.123456Z", "month"),
        ("2026-11-21T10:00:00.123456", "no UTC offset"),
        ("1969-01-01T00:00:00.000000Z", "between 1971"),
    ],
)
def test_a_time_that_is_none_has_no_form(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        normal(text)
