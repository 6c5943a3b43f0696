"""`turnstile rebuild sessions` has the gateway make its rows anew, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from infra.postgres.migrate import migrate_async
from services.gateway.adapters.sql import SqlReadModel, open_engine
from services.gateway.ports import Changes, Entry, StoredSession
from services.gateway.read_model.project import Projection
from services.gateway.read_model.refold import Refold
from services.gateway.streams.history import History
from services.gateway.streams.live import Live
from services.operator.main import build
from shared.session import Event
from tests.builders import SESSION, TENANT, Wire, bound, erasing, opening, seen, turn
from tests.fakes.gateway import MemoryEventArchive, MemoryEventLog
from tests.stack import fresh_database
from tests.unit.session.specification import history

pytestmark = pytest.mark.contract
KEY, ERASED, OTHER = (TENANT, SESSION), (TENANT, "erased"), ("other", SESSION)
LOG = history(opening(), turn("t1"), bound(), seen(*Wire().reply()))


async def _rebuild(*arguments: str) -> str:
    command = ["rebuild", "sessions", *arguments]
    told = await asyncio.to_thread(CliRunner().invoke, build(), command)
    assert told.exit_code == 0, told.output
    return told.output


async def _wrong(model: SqlReadModel) -> None:
    """Rows as the events make them, then two of them spoilt, as by a fault of the core."""
    projection = Projection({})
    erased = [replace(e, session_id="erased") for e in history(opening(), erasing(1))]
    for event in (*LOG, *erased, *(replace(e, tenant_id="other") for e in LOG)):
        projection.event(event)
    changes = projection.finish()
    await model.save(changes)
    for key in (KEY, OTHER):
        stored = changes.sessions[key]
        view = replace(stored.page.view, status="running", open_turn="t1")
        await model.save(Changes({key: StoredSession(replace(stored.page, view=view))}))


@pytest.mark.parametrize("place", ["sqlite", "postgres"])
async def test_rows_of_sessions_are_made_anew_from_their_events(
    place: str, tmp_path: Path, postgres_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fresh_database(postgres_server) as url:
        if place == "sqlite":
            url = f"sqlite+aiosqlite:///{tmp_path}/gateway.db"
        await migrate_async(url)
        monkeypatch.setenv("TURNSTILE_DATABASE_URL", url)
        model = SqlReadModel(open_engine(url, 2))
        await _wrong(model)
        assert "2 would be" in await _rebuild("--dry-run")
        assert list(await model.behind(("", ""), 9)) == []
        assert "1 are being" in await _rebuild("--tenant", TENANT)
        assert list(await model.behind(("", ""), 9)) == [KEY]
        archive = MemoryEventArchive({KEY: [_entry(event) for event in LOG]})
        refold = Refold(model, History(archive, MemoryEventLog(), Live(), model))
        await refold.fold(KEY)
        found = await model.session(KEY)
        assert found is not None
        assert (found.view.status, found.view.open_turn) == ("idle", None)
        assert "1 are being" in await _rebuild("--tenant", "other", "--session", SESSION)
        await model.stop()


def _entry(event: Event) -> Entry:
    return Entry(event.seq, event.type, event.at, msgspec.json.encode(event))
