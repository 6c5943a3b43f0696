"""Every value the gateway takes from its environment."""

from __future__ import annotations

from pydantic import Field

from shared.settings import Block, DatabaseSettings, ProcessSettings, TenantSettings


class HttpSettings(Block):
    """Where the gateway listens, and how much it takes on at once.

    Of what is published (sessions, turns, answers) `gateway_at_once` requests are worked on at a time, and
    `gateway_max_waiting` more wait.
    """

    gateway_host: str = "127.0.0.1"
    gateway_port: int = Field(default=8080, ge=0, le=65535)
    gateway_max_streams: int = Field(default=10_000, ge=1)
    gateway_tenant_streams: int = Field(default=5_000, ge=1)
    gateway_key_streams: int = Field(default=5_000, ge=1)
    gateway_stream_seconds: float = Field(default=1_800, gt=0)
    gateway_stall_seconds: float = Field(default=60, gt=0)
    gateway_at_once: int = Field(default=500, ge=1)
    gateway_max_waiting: int = Field(default=4_500, ge=0)


class Settings(ProcessSettings):
    """The blocks the gateway takes. Raises ValueError that names the variable."""

    http: HttpSettings
    database: DatabaseSettings
    tenants: TenantSettings

    def __init__(self) -> None:
        super().__init__()
        if not self.tenants.keys:
            raise ValueError(
                "TURNSTILE_API_KEYS is empty: nobody could call this gateway; "
                "set it to key:tenant[:scope+scope], pairs separated by commas"
            )
