"""The operator's addresses, read from the environment when a command needs them, with the secrets in each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from shared.settings import ArchiveSettings, DatabaseSettings, KafkaSettings


@dataclass(frozen=True, slots=True)
class Address:
    """`url` as the part's client takes it, `shown` as a person may see it, `secrets` to keep out of messages."""

    url: str
    shown: str
    secrets: tuple[str, ...] = ()


def database() -> Address:
    """The head rows and the read model (`TURNSTILE_DATABASE_URL`)."""
    return _address(DatabaseSettings().database_url.get_secret_value())


def archive() -> Address:
    """ClickHouse (`TURNSTILE_CLICKHOUSE_URL`)."""
    return _address(ArchiveSettings().clickhouse_url.get_secret_value())


def log() -> tuple[Address, dict[str, Any]]:
    """Kafka (`TURNSTILE_KAFKA_*`), and what its clients need besides the bootstrap address."""
    settings = KafkaSettings()
    options = settings.client("turnstile-operator")
    where, password = options.pop("bootstrap_servers"), settings.kafka_sasl_password
    secrets = (password.get_secret_value(),) if password else ()
    return Address(where, where, secrets), options


def _address(url: str) -> Address:
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    shown = f"{parts.scheme}://{place}{parts.path}"
    password = parts.password
    return Address(url, shown, (password, unquote(password)) if password else ())
