"""The embedded PostgreSQL as it runs, where a setting decides how long everybody waits for it."""

from __future__ import annotations

import sys

import pytest
from sqlalchemy import text

from services.operator.database import engine_on

pytestmark = pytest.mark.contract


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux syncs a whole file system")
async def test_a_killed_server_syncs_its_files_all_at_once(postgres_url: str) -> None:
    """One by one took 3 to 10 seconds before it took the first connection."""
    async with engine_on(postgres_url) as engine, engine.connect() as connection:
        method = await connection.scalar(text("SHOW recovery_init_sync_method"))
    assert method == "syncfs"
