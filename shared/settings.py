"""Every value a process takes from its environment; nothing else reads `os.environ`.

Blocks are small and each process takes those it needs. A wrong value stops the process at start with a message
that names the variable.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_type_hints
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.bus.topics import READ_COMMITTED
from shared.ownership import Thing, Unbound
from shared.retention import Rule
from shared.retention import read as read_retention
from shared.session.references import Kind, of_agent

# FastStream starts a reading task again that ended with an error, and it asks the environment whether to. With us
# such an error is the process's own.
os.environ["FASTSTREAM_SUPERVISOR_DISABLED"] = "1"


class Variable(NamedTuple):
    """One variable of the environment, for people: `default` is empty when there is none."""

    name: str
    default: str
    description: str


class Block(BaseSettings):
    """A group of settings read from `TURNSTILE_*` variables."""

    model_config = SettingsConfigDict(env_prefix="TURNSTILE_", extra="ignore", frozen=True)

    @property
    def secrets(self) -> list[str]:
        """Values that must not leave the process in words: those of secret fields, and passwords inside URLs."""
        found = {
            name: value.get_secret_value() for name, value in self if isinstance(value, SecretStr)
        }
        passwords = [
            _password(self.variable(name), url)
            for name, url in found.items()
            if name.endswith("_url")
        ]
        return [*found.values(), *passwords, *map(unquote, passwords)]

    @classmethod
    def variable(cls, field: str) -> str:
        """The variable that a field is read from."""
        return f"{cls.model_config.get('env_prefix', '')}{field}".upper()

    @classmethod
    def variables(cls) -> list[Variable]:
        """The fields in order, as `--help` and docs/operations.md show them."""
        return [
            Variable(cls.variable(name), _shown(field.default), field.description or "")
            for name, field in cls.model_fields.items()
        ]


def _shown(default: object) -> str:
    """A default as one would set it; a secret's is known to everybody."""
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    if isinstance(default, bool):
        return str(int(default))
    return "" if default is None else f"{default:g}" if isinstance(default, float) else str(default)


def _password(variable: str, url: str) -> str:
    try:
        return urlsplit(url).password or ""
    except ValueError as error:
        raise ValueError(f"{variable} is no URL: {error}") from None


def named(variable: str) -> str:
    """What a variable holds that somebody named on a command line, "" for none."""
    return os.environ.get(variable, "")


B = TypeVar("B", bound=Block)


def read(block: type[B]) -> B:
    """The block as the environment sets it. Raises ValueError that names each wrong variable; no secret is in the
    message."""
    try:
        return block()
    except ValidationError as error:
        wrong = [
            f"{block.variable(str(one['loc'][0]))}: {one['msg'].removeprefix('Value error, ')}"
            for one in error.errors(include_input=False, include_url=False)
        ]
        raise ValueError("; ".join(wrong)) from None


# The least that brokers allow by default (group.min.session.timeout.ms): so long the partitions of a member that
# died wait for another one.
_SESSION_TIMEOUT_MS = 6_000
_HEARTBEAT_MS = 1_000


class KafkaSettings(Block):
    """How to reach Kafka; SASL and TLS are for clusters beyond one machine.

    `instance` is KIP-345's static membership.
    """

    instance: str = Field(
        default="",
        max_length=200,
        pattern=r"^[A-Za-z0-9._-]*$",
        description=(
            "a name that a process keeps across restarts, such as its pod's in a "
            "StatefulSet: it has its partitions back at once, not after the 6 s of a member "
            "that died. One process of a kind for each name"
        ),
    )
    kafka_bootstrap: str = Field(
        default="127.0.0.1:9092", description="brokers, `host:port`, comma-separated"
    )
    kafka_security_protocol: str = Field(
        default="PLAINTEXT", description="`PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`"
    )
    kafka_sasl_mechanism: str = Field(
        default="PLAIN", description="such as `PLAIN` or `SCRAM-SHA-512`"
    )
    kafka_sasl_username: str | None = Field(default=None, description="whom the brokers know")
    kafka_sasl_password: SecretStr | None = Field(default=None, description="the password")

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
        return {**self.reader(client_id), **self.membership(group)}

    def membership(self, group: str) -> dict[str, Any]:
        """What makes a reader a member of a group, as keyword arguments of aiokafka and FastStream alike."""
        return {
            "group_id": group,
            "group_instance_id": self.instance or None,
            "auto_offset_reset": "earliest",
            "session_timeout_ms": _SESSION_TIMEOUT_MS,
            "heartbeat_interval_ms": _HEARTBEAT_MS,
        }


class DatabaseSettings(Block):
    """Where the read model (gateway) and the head rows (agent-worker) are."""

    database_url: SecretStr = Field(
        default=SecretStr("postgresql+asyncpg://postgres@127.0.0.1:5433/turnstile"),
        description="SQLAlchemy's URL: `postgresql+asyncpg://…`, `sqlite+aiosqlite:///…`",
    )
    database_pool: int = Field(
        default=16,
        ge=1,
        le=200,
        description=(
            "connections to the database that a process opens at most (an agent-worker two more, "
            "for its leases and for the provider's rate limits). The embedded server takes 200"
        ),
    )


class ArchiveSettings(Block):
    """Where ClickHouse is, and how long it keeps what."""

    clickhouse_url: SecretStr = Field(
        default=SecretStr("http://default:@127.0.0.1:8123/turnstile"),
        description="`http://user:password@host:8123/turnstile`",
    )
    retention: str = Field(
        default="",
        description=(
            "how long ClickHouse keeps what, by tenant and kind, for `turnstile migrate`: "
            "see *Retention*; unset: for ever"
        ),
    )

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
    """Whose keys and inputs are taken."""

    api_keys: SecretStr = Field(
        default=SecretStr(""),
        description=(
            "`key:tenant[:scope+scope]`, comma-separated; scopes are `read`, `write`, "
            "`admin`, none given: all. Only the gateway needs the keys"
        ),
    )
    tenants: str | None = Field(
        default=None, description="comma-separated, or `*`; unset: the tenants of the keys"
    )

    @property
    def secrets(self) -> list[str]:
        """The keys, one by one."""
        return list(self.keys)

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


class OwnershipSettings(Block):
    """Whose the provider's things are that nobody has bound to a tenant."""

    unbound_ids: Unbound = Field(
        default="bind",
        description=(
            "what becomes of an id of the provider's that is bound to no tenant. `bind`: agents and environments "
            "are everybody's; a vault, a file or a memory store becomes the tenant's that names it first. "
            "`refuse`: it is not there; for installations whose vaults are made outside Turnstile"
        ),
    )


class HealthSettings(Block):
    """Where a process without a port of its own serves `/healthz`, `/readyz` and `/metrics`."""

    health_port: int = Field(default=0, ge=0, le=65535, description="0 serves none")
    health_host: str = Field(default="127.0.0.1", description="the address it listens on")


class TelemetrySettings(Block):
    """Where spans go, and how much is logged."""

    model_config = SettingsConfigDict(env_prefix="")

    otel_exporter_otlp_endpoint: str | None = Field(
        default=None, description="spans go there; unset: to `otel_traces` in ClickHouse"
    )
    turnstile_traces_per_second: int = Field(
        default=100,
        ge=0,
        description=(
            "of the traces that begin in a process, so many a second are kept, whole, and of the others "
            "what failed; what a caller's `traceparent` says is always followed"
        ),
    )
    otel_traces_sampler: str | None = Field(
        default=None,
        description="in place of the line above: one of OpenTelemetry's, such as `parentbased_always_on`",
    )
    turnstile_log_level: str = Field(
        default="INFO", description="`DEBUG`, `INFO`, `WARNING` or `ERROR`"
    )

    @field_validator("turnstile_log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        level = value.upper()
        if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise ValueError("TURNSTILE_LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR")
        return level


# What a server of the provider's API may lack.
Feature = Literal["files", "mcp_oauth", "cloud"]


def listed(value: str) -> tuple[str, ...]:
    """What a comma-separated setting lists, in order, without blanks."""
    return tuple(one for part in value.split(",") if (one := part.strip()))


def require_each(value: str, allowed: Sequence[str]) -> str:
    """`value`, when each that it lists is allowed. Raises ValueError that names the first other one."""
    wrong = [one for one in listed(value) if one not in allowed]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is none of {', '.join(allowed)}")
    return value


class ProviderSettings(Block):
    """The Managed Agents API.

    Its key never leaves this block except into the SDK's client.
    """

    model_config = SettingsConfigDict(env_prefix="")

    anthropic_base_url: str | None = Field(
        default=None, description="where the API is; unset: the real one"
    )
    anthropic_api_key: SecretStr | None = Field(default=None, description="its key")
    turnstile_agent: str | None = Field(
        default=None, description="the agent of sessions that name none; unset: one is made"
    )
    turnstile_environment: str | None = Field(
        default=None, description="the environment of sessions; unset: one is made"
    )
    turnstile_model: str = Field(
        default="claude-sonnet-5-5",
        description="the model of agents that are made, and of agent files that name none",
    )
    turnstile_provider_without: str = Field(
        default="",
        description=(
            "what the server at ANTHROPIC_BASE_URL lacks, comma-separated: `files`, `mcp_oauth` (credentials of "
            "that kind), `cloud` (environments other than `self_hosted`): "
            "[a provider of your own](resources.md#a-provider-of-your-own)"
        ),
    )

    @field_validator("turnstile_provider_without")
    @classmethod
    def _known_features(cls, value: str) -> str:
        return require_each(value, get_args(Feature))

    @property
    def without(self) -> frozenset[Feature]:
        """What the server lacks."""
        lacks = listed(self.turnstile_provider_without)
        return frozenset(one for one in get_args(Feature) if one in lacks)

    @property
    def absent(self) -> tuple[Kind, ...]:
        """The kinds of things that it has none of."""
        return ("file",) if "files" in self.without else ()

    @property
    def defaults(self) -> tuple[Thing, ...]:
        """The agent and the environment that are named here: every tenant's."""
        agents = (("agent", one.id) for one in of_agent(self.turnstile_agent))
        environment = self.turnstile_environment
        return (*agents, *((("environment", environment),) if environment else ()))


class CallerSettings(Block):
    """How a command asks the gateway."""

    gateway_url: str = Field(default="http://127.0.0.1:8080", description="where the gateway is")
    api_key: SecretStr = Field(default=SecretStr(""), description="a key of the gateway's")

    @property
    def key(self) -> str:
        """The key, "" for none."""
        return self.api_key.get_secret_value()


class ReportSettings(Block):
    """The provider's reports on an organization, for `turnstile cost reconcile`."""

    model_config = SettingsConfigDict(env_prefix="")

    anthropic_analytics_key: SecretStr | None = Field(
        default=None, description="a key that may read analytics; unset: ANTHROPIC_API_KEY"
    )


class ProcessSettings:
    """What a process takes from its environment: one block for each annotation of the class and its bases.

    Raises ValueError that names the wrong variables. `instance` is this one process's name in spans and leases.
    """

    archive: ArchiveSettings
    kafka: KafkaSettings
    telemetry: TelemetrySettings

    def __init__(self) -> None:
        for name, block in self.blocks().items():
            setattr(self, name, read(block))
        self.instance = f"{socket.gethostname()}-{os.getpid()}"

    @classmethod
    def blocks(cls) -> dict[str, type[Block]]:
        """Attribute to the block it holds."""
        return {
            name: kind
            for name, kind in get_type_hints(cls).items()
            if isinstance(kind, type) and issubclass(kind, Block)
        }

    @classmethod
    def variables(cls) -> list[Variable]:
        """Everything that may be set, block by block."""
        return [one for block in cls.blocks().values() for one in block.variables()]

    @property
    def secrets(self) -> list[str]:
        """Values that must not appear in a log."""
        blocks: list[Block] = [getattr(self, name) for name in self.blocks()]
        return [secret for block in blocks for secret in block.secrets if secret]
