"""Every value the gateway takes from its environment."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from shared.settings import (
    Block,
    DatabaseSettings,
    OwnershipSettings,
    ProcessSettings,
    ProviderSettings,
    TenantSettings,
)

# RFC 6454, section 6.2, of the schemes that pages have.
_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")


class HttpSettings(Block):
    """Where the gateway listens, and how much it takes on at once."""

    gateway_host: str = Field(default="127.0.0.1", description="the address it listens on")
    gateway_port: int = Field(
        default=8080, ge=0, le=65535, description="the port; 0 takes a free one"
    )
    gateway_processes: int = Field(
        default=1,
        ge=1,
        le=64,
        description=(
            "how many processes serve that port, one for each core that is there for it; another one keeps the "
            "tables. What follows is shared out among them"
        ),
    )
    gateway_max_streams: int = Field(
        default=10_000,
        ge=1,
        description=(
            "event streams and replays that one gateway serves at once; beyond: 503 with "
            "`Retry-After`"
        ),
    )
    gateway_tenant_streams: int = Field(
        default=5_000, ge=1, description="of these, one tenant's; beyond: 429 with `Retry-After`"
    )
    gateway_key_streams: int = Field(
        default=5_000,
        ge=1,
        description="of these, those of one API key; beyond: 429 with `Retry-After`",
    )
    gateway_stream_seconds: float = Field(
        default=1_800,
        gt=0,
        description=(
            "how long a stream lasts at most; it ends cleanly and its client resumes by "
            "`Last-Event-ID`"
        ),
    )
    gateway_stall_seconds: float = Field(
        default=60,
        gt=0,
        description=(
            "how long a client may take nothing of what is sent to it; then it is cut off. "
            "A peer that is gone is noticed by the kernel after 90 s"
        ),
    )
    gateway_at_once: int = Field(
        default=500,
        ge=1,
        description=(
            "requests that publish (sessions, turns, answers, interrupts) worked on at a "
            "time, see *Capacity of a gateway*"
        ),
    )
    gateway_max_waiting: int = Field(
        default=4_500,
        ge=0,
        description=(
            "how many more of them wait for their turn, twenty seconds at most; the rest is "
            "told to come again"
        ),
    )
    session_reuse: Literal["never", "user", "user_agent"] = Field(
        default="never",
        description=(
            "what `POST /v1/sessions` does when it says nothing of `reuse` and names no session: `user` answers "
            "the user's open session, `user_agent` the one with the same agent, `never` opens a new one"
        ),
    )
    cors_origins: str = Field(
        default="",
        description=(
            "pages of which origins may call the gateway from a browser: "
            "`https://app.example,http://localhost:5173`, or `*` for all; unset: none. Cookies and the like are "
            "never asked for: a page sends its key"
        ),
    )

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: str) -> str:
        for origin in _listed(value):
            if origin != "*" and _ORIGIN.fullmatch(origin) is None:
                raise ValueError(
                    f"{origin!r} is no origin: write scheme, host and port as a browser does, "
                    "without a path and in lower case, as in https://app.example"
                )
        return value

    def share(self, limit: int) -> int:
        """What each process may take on of what the gateway may."""
        return -(-limit // self.gateway_processes)

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins of `cors_origins`, in order."""
        return _listed(self.cors_origins)


def _listed(value: str) -> tuple[str, ...]:
    return tuple(origin for text in value.split(",") if (origin := text.strip()))


class Settings(ProcessSettings):
    """The blocks the gateway takes. Raises ValueError that names the variable."""

    http: HttpSettings
    database: DatabaseSettings
    provider: ProviderSettings
    ownership: OwnershipSettings
    tenants: TenantSettings

    def __init__(self) -> None:
        super().__init__()
        if not self.tenants.keys:
            raise ValueError(
                "TURNSTILE_API_KEYS is empty: nobody could call this gateway; "
                "set it to key:tenant[:scope+scope], pairs separated by commas"
            )
