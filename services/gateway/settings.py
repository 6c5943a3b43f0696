"""Every value the gateway takes from its environment."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from shared.settings import (
    Block,
    DatabaseSettings,
    OwnershipSettings,
    ProcessSettings,
    ProviderSettings,
    TenantSettings,
    listed,
)

_HOST = re.compile(r"[a-z0-9._-]+(:[0-9]{1,5})?")
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
        for origin in listed(value):
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
        return listed(self.cors_origins)


class ConnectSettings(Block):
    """Connecting MCP servers by OAuth on a page of the gateway's (docs/vaults.md)."""

    connect_key: SecretStr | None = Field(
        default=None,
        description=(
            "32 random characters or more, the same for every gateway of a deployment (`openssl rand -hex 32`); it "
            "seals what links hold. Unset: connecting answers 503. Another one ends the links that are out"
        ),
    )
    connect_seconds: float = Field(
        default=3600, ge=60, le=604_800, description="how long a connect link can be used"
    )
    connect_hosts: str = Field(
        default="",
        description=(
            "hosts of MCP and authorization servers, `host` or `host:port`, comma-separated, that may be asked "
            "though their addresses are private, and without TLS: `mcp.internal,127.0.0.1:9000`"
        ),
    )
    public_url: str = Field(
        default="",
        description=(
            "where browsers reach this gateway, as in https://turnstile.example; unset: http and the host by which "
            "a connect link was asked for"
        ),
    )

    @field_validator("connect_key")
    @classmethod
    def _is_long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and 0 < len(value.get_secret_value()) < 32:
            raise ValueError("has fewer than 32 characters: make one by `openssl rand -hex 32`")
        return value

    @field_validator("connect_hosts")
    @classmethod
    def _are_hosts(cls, value: str) -> str:
        for host in listed(value):
            if _HOST.fullmatch(host) is None:
                raise ValueError(
                    f"{host!r} is no host: write host or host:port, in lower case, without a scheme"
                )
        return value

    @field_validator("public_url")
    @classmethod
    def _is_a_base(cls, value: str) -> str:
        if value and _ORIGIN.fullmatch(value) is None:
            raise ValueError(
                "is no address of a gateway: write https, host and port, nothing behind it, "
                "as in https://turnstile.example"
            )
        return value

    @property
    def key(self) -> str:
        """The key, "" for none."""
        return "" if self.connect_key is None else self.connect_key.get_secret_value()

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts of `connect_hosts`."""
        return listed(self.connect_hosts)


class Settings(ProcessSettings):
    """The blocks the gateway takes. Raises ValueError that names the variable."""

    http: HttpSettings
    connect: ConnectSettings
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
