"""Where are the parts? Read from the environment when a command needs them, with the secrets in each."""

from __future__ import annotations

import ssl
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
    options: dict[str, Any] = {"security_protocol": settings.kafka_security_protocol}
    secrets: tuple[str, ...] = ()
    if "SSL" in settings.kafka_security_protocol:
        options["ssl_context"] = ssl.create_default_context()
    if settings.kafka_security_protocol.startswith("SASL"):
        password = settings.kafka_sasl_password
        secrets = (password.get_secret_value(),) if password else ()
        options |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": password.get_secret_value() if password else None,
        }
    return Address(settings.kafka_bootstrap, settings.kafka_bootstrap, secrets), options


def _address(url: str) -> Address:
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    shown = f"{parts.scheme}://{place}{parts.path}"
    password = parts.password
    return Address(url, shown, (password, unquote(password)) if password else ())
