"""Migrates tables and creates topics: one run between the ground and the services."""

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


async def prepare_ground(settings: StackSettings, parts: set[str]) -> None:
    """What must exist before any migration: the embedded server's database, the topics.

    Only for parts of this stack that are named in `parts`; somebody else's cluster is left to
    the migration itself.
    """
    found = addresses_of(settings)
    if "postgres" in parts:
        await ensure_database(found.database_url)
    if "kafka" in parts:
        await create_topics(found.kafka)


def migrate(folders: Folders, environment: Mapping[str, str]) -> None:
    """Run `turnstile migrate`. Raises StackError with its last words when it fails."""
    log = folders.log_file("migrate")
    with log.open("wb") as output:
        try:
            done = subprocess.run(
                [*_turnstile(), "migrate"],
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
