"""The addresses of one stack's parts, and the environment variables that give them to each part."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from infra.local.keys import SIMULATOR_KEY, Keys
from infra.local.settings import StackSettings

DATABASE = "turnstile"
# What a process needs of the user's environment when it is none of our services.
_PLAIN = ("PATH", "HOME", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE")
_NOT_FOR_SERVICES = (
    *("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    *("TURNSTILE_API_KEYS", "TURNSTILE_CONNECT_KEY"),
)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Every address of a stack, its own parts' or somebody else's."""

    gateway: str
    kafka: str
    clickhouse_url: str
    database_url: str
    anthropic_base_url: str | None

    @property
    def clickhouse(self) -> str:
        """The archive's address without user, password and database."""
        parts = urlsplit(self.clickhouse_url)
        port = parts.port or (8443 if parts.scheme == "https" else 8123)
        return f"{parts.scheme}://{parts.hostname}:{port}"


def addresses_of(settings: StackSettings) -> Addresses:
    """The addresses that follow from the settings."""
    ports = settings.ports
    own_database = f"postgresql+asyncpg://postgres@127.0.0.1:{ports['postgres']}/{DATABASE}"
    own_archive = f"http://default:@127.0.0.1:{ports['clickhouse']}/{DATABASE}"
    simulator = f"http://127.0.0.1:{ports['simulator']}" if simulated(settings) else None
    return Addresses(
        gateway=f"http://127.0.0.1:{ports['gateway']}",
        kafka=settings.kafka_bootstrap or f"127.0.0.1:{ports['kafka']}",
        clickhouse_url=settings.clickhouse_url or own_archive,
        database_url=settings.database_url or own_database,
        anthropic_base_url=settings.anthropic_base_url or simulator,
    )


def simulated(settings: StackSettings) -> bool:
    """Whether the stack starts a simulator: only when nothing says where the provider is."""
    return not (settings.anthropic_base_url or settings.anthropic_api_key)


def plain_environment(settings: StackSettings) -> dict[str, str]:
    """For parts that are not ours: no settings, no secrets, one locale everywhere."""
    kept = {name: settings.environment[name] for name in _PLAIN if name in settings.environment}
    return {**kept, "LC_ALL": "C.UTF-8"}


def service_environment(settings: StackSettings, keys: Keys) -> dict[str, str]:
    """For our services and migrations: all addresses and tenants, but no keys."""
    found = addresses_of(settings)
    inherited = {
        name: value for name, value in settings.environment.items() if name not in _NOT_FOR_SERVICES
    }
    return {
        "TURNSTILE_TENANTS": keys.tenants,
        **inherited,
        "TURNSTILE_KAFKA_BOOTSTRAP": found.kafka,
        "TURNSTILE_DATABASE_URL": found.database_url,
        "TURNSTILE_CLICKHOUSE_URL": found.clickhouse_url,
        "PYTHONUNBUFFERED": "1",
    }


def provider_environment(settings: StackSettings) -> Mapping[str, str]:
    """For agent-workers only: where the provider is, and the key to it."""
    base_url = addresses_of(settings).anthropic_base_url
    found = {"ANTHROPIC_API_KEY": settings.anthropic_api_key or SIMULATOR_KEY}
    return {**found, "ANTHROPIC_BASE_URL": base_url} if base_url else found
