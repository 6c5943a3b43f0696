"""What is asked again and again reads what it finds, however many sessions there are: by PostgreSQL's own plans."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.agent_worker.adapters.sql import CLAIM, DUE
from services.agent_worker.ports import Store
from tests.contract.store_rows import asked, claimed

pytestmark = pytest.mark.contract
SESSIONS = 20_000
AT_REST = """
INSERT INTO worker_heads (tenant_id, session_id, epoch, version, state, unsaid, todo, filed, taken, position)
SELECT 'acme', 'rests-' || n, 1, 1, '', '', '', 1, 1, 1 FROM generate_series(1, CAST(:count AS int)) AS n
"""
READ = """
SELECT sum(pg_stat_get_xact_tuples_returned(oid)) FROM (
    SELECT 'worker_heads'::regclass AS oid
    UNION ALL SELECT indexrelid FROM pg_index WHERE indrelid = 'worker_heads'::regclass) AS read
"""


async def test_looking_for_what_is_due_does_not_read_all_sessions_that_rest(
    store: Store, engine: AsyncEngine | None
) -> None:
    if engine is None or engine.dialect.name != "postgresql":
        pytest.skip("PostgreSQL counts what it reads")
    await store.file([asked()])
    async with engine.connect() as connection:
        await connection.execute(text(AT_REST), {"count": SESSIONS})
        await connection.commit()
        await connection.execute(text("ANALYZE worker_heads"))
        await connection.commit()
        before = await connection.scalar(text(READ))
        due = await connection.scalar(DUE)
        given = {"given_owner": "a", "given_lease": 0.0, "given_limit": 10}
        found = (await connection.execute(CLAIM, given)).all()
        read = await connection.scalar(text(READ)) - before
        await connection.rollback()
    assert due == 1
    assert [row.session_id for row in found] == ["s1"]
    assert read < SESSIONS / 100, "rows and entries of indexes"
    assert (await claimed(store)).key == asked().key
