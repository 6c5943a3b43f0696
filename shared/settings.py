"""Every value a process takes from its environment; nothing else reads `os.environ`.

Blocks are small and each process takes those it needs. A wrong value stops the process at start with a message
that names the variable.
"""

from __future__ import annotations

import ssl
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.bus.topics import READ_COMMITTED
from shared.retention import Rule
from shared.retention import read as read_retention


class Block(BaseSettings):
    """A group of settings read from `TURNSTILE_*` variables."""

    model_config = SettingsConfigDict(env_prefix="TURNSTILE_", extra="ignore", frozen=True)


# The least that brokers allow by default (group.min.session.timeout.ms): so long the partitions of a member that
# died wait for another one.
_SESSION_TIMEOUT_MS = 6_000
_HEARTBEAT_MS = 1_000


class KafkaSettings(Block):
    """How to reach the log. SASL and TLS are for clusters beyond one machine.

    `instance` names this process for its consumer groups across restarts (KIP-345, static membership): started
    again under the same name it has its partitions back at once. No two processes of one kind may share a name.
    """

    instance: str = Field(default="", max_length=200, pattern=r"^[A-Za-z0-9._-]*$")
    kafka_bootstrap: str = "127.0.0.1:9092"
    kafka_security_protocol: str = "PLAINTEXT"
    kafka_sasl_mechanism: str = "PLAIN"
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None

    def client(self, client_id: str) -> dict[str, Any]:
        """Keyword arguments of every aiokafka client; `client_id` tells the broker which process asks."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.kafka_bootstrap,
            "client_id": client_id,
            "security_protocol": self.kafka_security_protocol,
        }
        if "SSL" in self.kafka_security_protocol:
            options["ssl_context"] = ssl.create_default_context()
        if self.kafka_security_protocol.startswith("SASL"):
            password = self.kafka_sasl_password
            options |= {
                "sasl_mechanism": self.kafka_sasl_mechanism,
                "sasl_plain_username": self.kafka_sasl_username,
                "sasl_plain_password": password.get_secret_value() if password else None,
            }
        return options

    def reader(self, client_id: str) -> dict[str, Any]:
        """Keyword arguments of every aiokafka consumer: it sees what is committed, and commits nothing by
        itself."""
        return {
            **self.client(client_id),
            "isolation_level": READ_COMMITTED,
            "enable_auto_commit": False,
        }

    def member(self, client_id: str, group: str) -> dict[str, Any]:
        """Keyword arguments of a reader that is a member of a group."""
        return {
            **self.reader(client_id),
            "group_id": group,
            "group_instance_id": self.instance or None,
            "auto_offset_reset": "earliest",
            "session_timeout_ms": _SESSION_TIMEOUT_MS,
            "heartbeat_interval_ms": _HEARTBEAT_MS,
        }


class DatabaseSettings(Block):
    """SQLAlchemy URL of the head rows (agent-worker) and the read model (gateway)."""

    database_url: SecretStr = SecretStr("postgresql+asyncpg://postgres@127.0.0.1:5433/turnstile")
    database_pool: int = Field(default=16, ge=1, le=200)


class ArchiveSettings(Block):
    """`http://user:password@host:8123/turnstile`; `retention` as `shared.retention` reads it, empty: for ever."""

    clickhouse_url: SecretStr = SecretStr("http://default:@127.0.0.1:8123/turnstile")
    retention: str = ""

    @field_validator("retention")
    @classmethod
    def _readable(cls, value: str) -> str:
        try:
            read_retention(value)
        except ValueError as error:
            raise ValueError(f"TURNSTILE_RETENTION, {error}") from None
        return value

    @property
    def kept(self) -> tuple[Rule, ...]:
        """The rules, the one that holds first."""
        return read_retention(self.retention)


class TenantSettings(Block):
    """`TURNSTILE_API_KEYS` = `key:tenant[:scope+scope],…`; `TURNSTILE_TENANTS` = `a,b` or `*`."""

    api_keys: SecretStr = SecretStr("")
    tenants: str | None = None

    @cached_property
    def keys(self) -> dict[str, tuple[str, frozenset[str]]]:
        """API key to (tenant, scopes); no scopes given means all. Raises ValueError on a malformed pair."""
        found: dict[str, tuple[str, frozenset[str]]] = {}
        for place, pair in enumerate(filter(None, self.api_keys.get_secret_value().split(",")), 1):
            key, _, rest = pair.strip().partition(":")
            tenant, _, scopes = rest.partition(":")
            if not key or not tenant:
                raise ValueError(
                    f"TURNSTILE_API_KEYS: pair {place} is not key:tenant[:scope+scope]"
                )
            found[key] = (tenant, frozenset(filter(None, scopes.split("+"))))
        return found

    def knows(self, tenant: str) -> bool:
        """Whether inputs of this tenant are taken."""
        return self.known_tenants is None or tenant in self.known_tenants

    @cached_property
    def known_tenants(self) -> frozenset[str] | None:
        """The tenants served; None means any (`TURNSTILE_TENANTS=*`)."""
        if self.tenants is None:
            return frozenset(tenant for tenant, _ in self.keys.values())
        if self.tenants.strip() == "*":
            return None
        return frozenset(filter(None, (name.strip() for name in self.tenants.split(","))))


class HealthSettings(Block):
    """Port of /healthz, /readyz and /metrics of a process without a port of its own; 0 serves none."""

    health_port: int = Field(default=0, ge=0, le=65535)
    health_host: str = "127.0.0.1"


class TelemetrySettings(BaseSettings):
    """`OTEL_EXPORTER_OTLP_ENDPOINT` unset: spans go to `otel_traces` in ClickHouse."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    otel_exporter_otlp_endpoint: str | None = None
    turnstile_log_level: str = "INFO"

    @field_validator("turnstile_log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        level = value.upper()
        if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise ValueError("TURNSTILE_LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR")
        return level


class ProviderSettings(BaseSettings):
    """The Managed Agents API. The key never leaves this block except into the SDK's client."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    anthropic_base_url: str | None = None
    anthropic_api_key: SecretStr | None = None
    turnstile_agent: str | None = None
    turnstile_environment: str | None = None
    turnstile_model: str = "claude-sonnet-5"


def var_folder() -> Path:
    """`TURNSTILE_VAR`: where a stack on one machine keeps its state."""

    class Var(Block):
        var: Path = Path("var")

    return Var().var
