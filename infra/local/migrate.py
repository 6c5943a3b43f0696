"""Makes what the services need of broker, database and archive, each as soon as it is ready: they are ready long
before the broker is."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from infra.kafka.topics import create_topics
from infra.local.addresses import addresses_of
from infra.local.errors import StackError
from infra.local.folders import Folders
from infra.local.logs import tail
from infra.local.settings import StackSettings
from infra.postgres.databases import ensure_database

_TIMEOUT_S = 180


async def make_topics(settings: StackSettings) -> None:
    """Create the topics on this stack's broker. Raises TopicError or aiokafka's KafkaError."""
    await create_topics(addresses_of(settings).kafka)


async def make_database(settings: StackSettings) -> None:
    """Create the database on this stack's server. Raises asyncpg.PostgresError or OSError."""
    await ensure_database(addresses_of(settings).database_url)


def migrate(folders: Folders, environment: Mapping[str, str], *, topics: bool) -> None:
    """Run `turnstile migrate` for the tables, with `topics` for the topics too. Blocks.

    Raises StackError with its last words when it fails.
    """
    parts = [] if topics else ["--only", "sql", "--only", "clickhouse"]
    log = folders.log_file("migrate")
    with log.open("wb") as output:
        try:
            done = subprocess.run(
                [*_turnstile(), "migrate", *parts],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                timeout=_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise StackError(
                f"turnstile migrate: no end after {_TIMEOUT_S} s\n{tail(log)}"
            ) from None
    if done.returncode:
        raise StackError(f"turnstile migrate failed; last lines of {log}:\n{tail(log)}")


def _turnstile() -> list[str]:
    script = Path(sys.executable).with_name("turnstile")
    return [str(script)] if script.exists() else [sys.executable, "-m", "services.operator.main"]
