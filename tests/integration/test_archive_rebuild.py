"""Derived tables are made anew from the events while they are filled and read. Real engine, real kills."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner, Result

from infra.clickhouse import backfill
from infra.clickhouse import rebuild as rebuilding
from infra.clickhouse.backfill import derived_tables, pieces
from infra.clickhouse.rebuild import Rebuild, RebuildError, chosen
from services.operator.main import build
from services.recorder.archive import ClickHouseWriter
from tests.clickhouse_archive import emptied_archive
from tests.clickhouse_rows import event, turn
from tests.clickhouse_server import ROOT
from tests.integration.test_archive_sums import rows, wrong

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
TABLES = [
    "agent_outputs", "ledger", "model_requests", "session_days", "session_usage", "tool_calls", "turns",
]  # fmt: skip


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> str:
    """A migrated database with some events in it."""
    name = emptied_archive()
    writer = ClickHouseWriter(name, timeout=60)
    writer.insert(b"\n".join(rows(1_500)))
    writer.close()
    monkeypatch.setenv("TURNSTILE_CLICKHOUSE_URL", name)
    return name


def connected(url: str) -> Client:
    return clickhouse_connect.get_client(dsn=url, autogenerate_session_id=False)


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with connected(url) as client:
        yield client


def rebuild(*arguments: str) -> Result:
    return CliRunner().invoke(build(), ["rebuild", "archive", *arguments])


def left_over(client: Client) -> list[str]:
    sql = (
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND name LIKE '%\\_\\_%'"
    )
    return [name for (name,) in client.query(sql).result_rows]


def of(client: Client, table: str, piece_rows: int = 100) -> Rebuild:
    return Rebuild(client, chosen(client, [table])[0], lambda line: None, piece_rows)


def facts(client: Client) -> dict[str, Any]:
    """Every row of every view but for what an order of rows decides."""
    views = {
        "turn_facts": "tenant_id, session_id, turn_id",
        "tool_call_facts": "tenant_id, session_id, tool_use_id",
        "model_request_facts": "tenant_id, session_id, request_id",
        "session_facts": "tenant_id, session_id",
        "tenant_days": "tenant_id, day",
    }
    return {
        view: client.query(f"SELECT * FROM {view} ORDER BY {order}").result_rows
        for view, order in views.items()
    }


def test_all_tables_are_rebuilt_from_the_events_alone(url: str, client: Client) -> None:
    before = facts(client)
    for table in TABLES:
        client.command(f"TRUNCATE TABLE {table}")
    assert wrong(url) != []
    told = rebuild()
    assert told.exit_code == 0, told.output
    assert "turns: " in told.stdout
    assert facts(client) == before
    assert wrong(url) == []
    assert left_over(client) == []


def test_a_rebuilt_table_goes_on_being_filled(url: str, client: Client) -> None:
    assert rebuild("--table", "tool_calls", "--table", "session_days").exit_code == 0
    writer = ClickHouseWriter(url, timeout=60)
    writer.insert(b"\n".join(rows(800, seed=2)))
    writer.close()
    assert wrong(url) == []


def test_a_dry_run_changes_nothing(client: Client) -> None:
    client.command("TRUNCATE TABLE turns")
    told = rebuild("--dry-run", "--table", "turns")
    assert told.exit_code == 0, told.output
    assert told.stdout == "turns: would copy 1,500 events in 1 pieces\n"
    assert client.query("SELECT count() FROM turns").result_rows == [(0,)]
    assert left_over(client) == []


def test_an_unknown_table_is_named(client: Client) -> None:
    told = rebuild("--table", "turn_facts")
    assert told.exit_code == 1
    assert "turn_facts is no derived table; there are agent_outputs, " in told.stderr


def test_a_rebuild_keeps_tenants_with_the_same_session_ids_apart(url: str, client: Client) -> None:
    sql = "SELECT tenant_id, session_id, events, turns FROM session_facts ORDER BY ALL"
    others = [
        event(seq, "turn.completed", turn("completed"), session_id=f"s{session}", tenant_id=tenant)
        for tenant in ("acma", "acme", "acmf", "b")
        for session in range(9)
        for seq in range(1, 1 + session)
    ]
    writer = ClickHouseWriter(url, timeout=60)
    writer.insert(b"".join(others))
    writer.close()
    before = client.query(sql).result_rows
    for table in ("session_days", "turns"):
        client.command(f"TRUNCATE TABLE {table}")
        of(client, table, 7).run()
    assert client.query(sql).result_rows == before


def test_pieces_cover_every_session_once(client: Client) -> None:
    planned = pieces(client, 100)
    assert len(planned) > 5
    assert sum(piece.rows for piece in planned) == 1_500
    assert planned[0].first is planned[-1].end is None
    assert all(one.end == two.first for one, two in pairwise(planned))


BEGUN = "SELECT count() FROM system.processes WHERE query LIKE 'INSERT INTO session_events%'"


def test_an_insert_that_began_before_is_waited_for(url: str, client: Client) -> None:
    """It knows nothing of the new table's view, so what it inserts must be copied."""
    slow = (
        "INSERT INTO session_events (tenant_id, session_id, seq, type, at)"
        " SELECT 'acme', 'slow', 1 + sleepEachRow(1), 'session.opened', now() FROM numbers(3)"
        " SETTINGS max_block_size = 1, min_insert_block_size_rows = 0, min_insert_block_size_bytes = 0,"
        " max_insert_threads = 1"
    )
    with connected(url) as other, ThreadPoolExecutor(1) as pool:
        running = pool.submit(other.command, slow)
        while not client.command(BEGUN):
            assert not running.done(), "it was over before it was seen"
        of(client, "session_days").run()
        assert running.done(), "the rebuild did not wait"
    assert wrong(url) == []


STEPS = ["CREATE MATERIALIZED", "copy 3", "EXCHANGE", "DROP VIEW", "DROP TABLE"]


@pytest.mark.parametrize("step", STEPS)
def test_a_rebuild_that_was_cut_short_goes_on(
    url: str, client: Client, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The process is gone right after each of its steps; rows come in before it is run again."""

    class Killed(BaseException):
        pass

    real_command, real_copy, copies = client.command, backfill.copy, 0

    def command(sql: str, *arguments: Any, **more: Any) -> Any:
        done = real_command(sql, *arguments, **more)
        if sql.startswith(step) and shadowed:
            raise Killed
        return done

    def copy(*arguments: Any) -> None:
        nonlocal copies
        copies += 1
        real_copy(*arguments)
        if step == f"copy {copies}":
            raise Killed

    shadowed = not step.startswith("DROP")
    exchanged = rebuilding.Rebuild._exchange

    def exchange(self: Rebuild) -> None:
        nonlocal shadowed
        exchanged(self)
        shadowed = True

    client.command("DELETE FROM tool_calls WHERE cityHash64(tool_use_id) % 2 = 0")
    assert wrong(url) != []
    with monkeypatch.context() as patch:
        patch.setattr(client, "command", command)
        patch.setattr(rebuilding, "copy", copy)
        patch.setattr(Rebuild, "_exchange", exchange)
        with pytest.raises(Killed):
            of(client, "tool_calls").run()
    writer = ClickHouseWriter(url, timeout=60)
    writer.insert(b"\n".join(rows(500, seed=3)))
    writer.close()
    said: list[str] = []
    Rebuild(client, chosen(client, ["tool_calls"])[0], said.append, 100).run()
    assert wrong(url) == []
    assert left_over(client) == []
    if step.startswith(("copy", "EXCHANGE")):
        assert "goes on" in said[0] or "exchanged already" in said[0]


def test_a_killed_process_leaves_a_rebuild_that_goes_on(url: str, client: Client) -> None:
    script = (
        "import time, infra.clickhouse.rebuild as r\n"
        "from infra.clickhouse.connection import connect\n"
        f"server, server_database = connect({url!r}); server.database = server_database\n"
        "say = lambda line: (print(line, flush=True), time.sleep(0.2))\n"
        "r.Rebuild(server, r.chosen(server, ['turns'])[0], say, 100).run()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("turns: ")
    process.kill()
    process.wait(30)
    process.stdout.close()
    told = rebuild("--dry-run", "--table", "turns")
    assert "would go on with" in told.stdout
    assert rebuild("--table", "turns").exit_code == 0
    assert wrong(url) == []
    assert left_over(client) == []


def test_two_rebuilds_at_once_do_no_harm(url: str, client: Client) -> None:
    def run(_: int) -> str:
        with connected(url) as own:
            try:
                of(own, "turns", 50).run()
                return "done"
            except RebuildError as error:
                return str(error)
            except Exception as error:  # its table was dropped by the other
                return f"failed: {error}"

    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(run, range(2)))
    assert of(client, "turns").run().table == "turns"
    assert wrong(url) == [], ends
    assert left_over(client) == []


def test_what_was_erased_meanwhile_stays_away(
    url: str, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    (victim,) = client.query("SELECT max(session_id) FROM tool_calls").result_rows[0]
    exchange = Rebuild._exchange

    def erased_first(self: Rebuild) -> None:
        for table in ("session_events", "tool_calls"):
            client.command(
                f"ALTER TABLE {table} DELETE WHERE session_id = '{victim}'",
                settings={"mutations_sync": 2},
            )
        client.command(
            "INSERT INTO erasures (tenant_id, session_id, asked_at, noted_at, version)"
            f" VALUES ('acme', '{victim}', now(), now(), 1)"
        )
        exchange(self)

    monkeypatch.setattr(Rebuild, "_exchange", erased_first)
    of(client, "tool_calls").run()
    sql = f"SELECT count() FROM tool_calls WHERE session_id = '{victim}'"
    assert client.query(sql).result_rows == [(0,)]


def test_every_table_filled_from_events_is_known(client: Client) -> None:
    assert [one.table for one in derived_tables(client)] == TABLES
