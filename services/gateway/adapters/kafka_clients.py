"""The gateway's Kafka clients and their names."""

from __future__ import annotations

from typing import Any

import aiokafka

# aiokafka carries no annotations; what it promises is written down in the ports instead.
Consumer: Any = aiokafka.AIOKafkaConsumer
CLIENT_ID = "turnstile-gateway"
