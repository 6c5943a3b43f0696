"""What the gateway takes from its environment."""

from __future__ import annotations

import pytest

from services.gateway.settings import HttpSettings
from shared.settings import read

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("value", "origins"),
    [
        ("", ()),
        ("*", ("*",)),
        (
            " https://app.example ,http://localhost:5173,,http://[::1]:3000",
            ("https://app.example", "http://localhost:5173", "http://[::1]:3000"),
        ),
    ],
)
def test_origins_are_a_list(
    monkeypatch: pytest.MonkeyPatch, value: str, origins: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TURNSTILE_CORS_ORIGINS", value)
    assert read(HttpSettings).origins == origins


@pytest.mark.parametrize(
    "value",
    ["app.example", "https://app.example/", "https://App.example", "null", "https://*.example"],
)
def test_what_no_browser_says_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("TURNSTILE_CORS_ORIGINS", f"https://ok.example,{value}")
    with pytest.raises(ValueError, match=r"TURNSTILE_CORS_ORIGINS.*is no origin"):
        read(HttpSettings)
