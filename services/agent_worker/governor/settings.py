"""Settings: the provider's limits, and how long a request may wait for its turn."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator

from shared.settings import Block

# Per minute and organisation, as published in 2026: reads, creates. Where sends count is not said: with the reads.
PUBLISHED = {"requests": 1_200, "creates": 300}
# Less can't be shared out.
LEAST_PER_MINUTE = 10


class RateSettings(Block):
    """What all workers together ask of the provider at most ([why and how](decisions/0012-rate-governor.md))."""

    provider_requests_per_minute: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000,
        description=(
            "requests a minute, creates apart; 0: no bound, else 10 or more; unset: 1200 "
            "with the real API, else 0"
        ),
    )
    provider_creates_per_minute: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000,
        description=(
            "sessions made a minute; 0: no bound, else 10 or more; unset: 300 with the real "
            "API, else 0"
        ),
    )
    provider_wait_seconds: float = Field(
        default=30.0,
        ge=1,
        le=600,
        description="how long a request waits for its turn before the attempt fails",
    )

    @field_validator("provider_requests_per_minute", "provider_creates_per_minute")
    @classmethod
    def _none_or_enough(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and 0 < value < LEAST_PER_MINUTE:
            name = f"TURNSTILE_{(info.field_name or '').upper()}"
            raise ValueError(f"{name} must be 0 (no bound) or at least {LEAST_PER_MINUTE}")
        return value

    def limits(self, base_url: str | None) -> dict[str, int]:
        """Requests per minute by limit, 0 for none; `base_url` is where the provider is, None: the API itself."""
        given = {
            "requests": self.provider_requests_per_minute,
            "creates": self.provider_creates_per_minute,
        }
        usual = PUBLISHED if _is_the_api(base_url) else dict.fromkeys(PUBLISHED, 0)
        return {name: usual[name] if value is None else value for name, value in given.items()}


def _is_the_api(base_url: str | None) -> bool:
    host = (urlsplit(base_url).hostname or "") if base_url else "api.anthropic.com"
    return host == "anthropic.com" or host.endswith(".anthropic.com")
