"""How does a Kafka client reach the cluster? The options every aiokafka client here shares."""

from __future__ import annotations

import ssl
from typing import Any

import aiokafka

from shared.settings import KafkaSettings

# aiokafka carries no annotations; what it promises is written down in the ports instead.
Producer: Any = aiokafka.AIOKafkaProducer
Consumer: Any = aiokafka.AIOKafkaConsumer
CLIENT_ID = "turnstile-gateway"


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """Keyword arguments for AIOKafkaProducer and AIOKafkaConsumer."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap,
        "client_id": CLIENT_ID,
        "security_protocol": settings.kafka_security_protocol,
    }
    if "SSL" in settings.kafka_security_protocol:
        options["ssl_context"] = ssl.create_default_context()
    if settings.kafka_security_protocol.startswith("SASL"):
        password = settings.kafka_sasl_password
        options |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": password.get_secret_value() if password else None,
        }
    return options
