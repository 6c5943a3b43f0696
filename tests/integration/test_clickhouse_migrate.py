"""Migrations against the real engine: fresh, twice, two at once, half done, changed, retention."""

from __future__ import annotations

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.clickhouse.migrate import MIGRATIONS, MigrationError, migrate
from shared.retention import read
from tests.clickhouse_rows import SETTINGS, event
from tests.clickhouse_server import ask, fresh_database, shared_clickhouse

pytestmark = pytest.mark.integration

NAMES = [file.stem for file in sorted(MIGRATIONS.glob("*.sql"))]
NEXT = f"{len(NAMES) + 1:04}_broken"
MADE = re.compile(r"^CREATE (?:TABLE|VIEW|MATERIALIZED VIEW) IF NOT EXISTS (\w+)", re.MULTILINE)
TABLES = "".join(
    f"{name}\n"
    for name in sorted(
        {"schema_migrations"}.union(
            *(MADE.findall(f.read_text()) for f in MIGRATIONS.glob("*.sql"))
        )
    )
)


def quiet(step: str) -> None:
    pass


@pytest.fixture
def url() -> str:
    return fresh_database(shared_clickhouse().url)


def tables(url: str) -> str:
    name = url.rsplit("/", 1)[1]
    sql = "SELECT name FROM system.tables WHERE database = {name:String} ORDER BY name"
    return ask(shared_clickhouse().base, sql, param_name=name).body.decode()


def create_query(url: str, table: str) -> str:
    return ask(
        shared_clickhouse().base, f"SHOW CREATE TABLE {url.rsplit('/', 1)[1]}.{table}"
    ).body.decode()


def test_a_fresh_database_is_migrated_and_then_nothing_is_left_to_do(url: str) -> None:
    assert migrate(url, say=quiet) == [f"apply {name}" for name in NAMES]
    assert tables(url) == TABLES
    assert migrate(url, say=quiet) == []


def test_a_dry_run_shows_the_sql_and_changes_nothing(url: str) -> None:
    said: list[str] = []
    steps = migrate(url, dry_run=True, rules=read("*=3d"), say=said.append)
    assert steps[: len(NAMES)] == [f"would apply {name}" for name in NAMES]
    assert "would keep session_events *=3d" in steps
    assert "CREATE TABLE IF NOT EXISTS session_events" in said[0]
    assert tables(url) == ""
    migrate(url, say=quiet)
    assert migrate(url, dry_run=True, say=quiet) == []


def test_two_processes_may_migrate_at_once(url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(migrate, url, rules=read("*=7d"), say=quiet) for _ in range(4)]:
            done.result()
    assert tables(url) == TABLES
    assert migrate(url, rules=read("*=7d"), say=quiet) == []


def test_a_migration_that_was_cut_off_goes_on(url: str, tmp_path: Path) -> None:
    shutil.copytree(MIGRATIONS, tmp_path / "m")
    broken = tmp_path / "m" / f"{NEXT}.sql"
    broken.write_text("CREATE TABLE IF NOT EXISTS later (a UInt8) ENGINE = Memory;\nNONSENSE;\n")
    with pytest.raises(Exception, match="SYNTAX_ERROR"):
        migrate(url, directory=tmp_path / "m", say=quiet)
    broken.write_text("CREATE TABLE IF NOT EXISTS later (a UInt8) ENGINE = Memory;\n")
    assert migrate(url, directory=tmp_path / "m", say=quiet) == [f"apply {NEXT}"]
    with pytest.raises(MigrationError, match=f"{NEXT}, newer than this program"):
        migrate(url, say=quiet)


def test_a_setting_that_the_server_does_not_know_is_left_out(url: str, tmp_path: Path) -> None:
    shutil.copytree(MIGRATIONS, tmp_path / "m")
    unknown = "ALTER TABLE turns MODIFY SETTING not_invented_yet = 1;\n"
    (tmp_path / "m" / f"{NEXT}.sql").write_text(unknown)
    said: list[str] = []
    assert f"apply {NEXT}" in migrate(url, directory=tmp_path / "m", say=said.append)
    assert f"{NEXT}: this ClickHouse has no not_invented_yet, left out" in said


def test_each_part_of_an_insert_is_one_file(url: str) -> None:
    base, database = shared_clickhouse().base, url.rsplit("/", 1)[1]
    migrate(url, say=quiet)
    insert = f"INSERT INTO {database}.session_events FORMAT JSONEachRow\n".encode()
    assert ask(base, insert + event(1, "turn.accepted", '{"turn_id": "t"}'), SETTINGS).status == 200
    where = f"database = '{database}' AND table != 'schema_migrations'"
    sql = f"SELECT DISTINCT part_storage_type FROM system.parts WHERE {where}"
    assert ask(base, sql).body == b"Packed\n"


def test_a_file_changed_after_it_was_applied_is_named(url: str, tmp_path: Path) -> None:
    shutil.copytree(MIGRATIONS, tmp_path / "m")
    migrate(url, directory=tmp_path / "m", say=quiet)
    with (tmp_path / "m" / "0002_turns.sql").open("a") as file:
        file.write("-- one word more\n")
    with pytest.raises(MigrationError, match=r"0002_turns\.sql was changed after it was applied"):
        migrate(url, directory=tmp_path / "m", say=quiet)


def test_retention_follows_the_setting(url: str) -> None:
    migrate(url, rules=read("*=30d"), say=quiet)
    assert "TTL toDateTime(at) + toIntervalHour(720)" in create_query(url, "session_events")
    assert "keep turns *=7d" in migrate(url, rules=read("*=7d"), say=quiet)
    assert "keep turns for ever" in migrate(url, say=quiet)
    assert "TTL" not in create_query(url, "session_events")


def test_rows_older_than_the_retention_are_deleted(url: str) -> None:
    base, database = shared_clickhouse().base, url.rsplit("/", 1)[1]
    migrate(url, rules=read("*=30d"), say=quiet)
    sql = f"INSERT INTO {database}.session_events (session_id, seq, at) VALUES"
    rows = "('s', 1, now() - INTERVAL 31 DAY), ('s', 2, now())"
    assert ask(base, f"{sql} {rows}").status == 200
    assert ask(base, f"OPTIMIZE TABLE {database}.session_events FINAL").status == 200
    assert ask(base, f"SELECT groupArray(seq) FROM {database}.session_events").body == b"[2]\n"


def test_tables_added_later_have_what_came_before(url: str, tmp_path: Path) -> None:
    early = tmp_path / "early"
    early.mkdir()
    for file in sorted(MIGRATIONS.glob("*.sql"))[:4]:
        shutil.copy(file, early)
    migrate(url, directory=early, say=quiet)
    base, database = shared_clickhouse().base, url.rsplit("/", 1)[1]
    rows = b"".join(
        event(seq, kind, data, session_id=f"s{number}", tenant_id=f"t{number % 3}")
        for number in range(9)
        for seq, kind, data in (
            (1, "session.opened", "{}"),
            (2, "agent.tool_use", f'{{"id": "tool_{number}", "name": "search"}}'),
            (3, "span.model_request_end", '{"id": "end", "model_usage": {"input_tokens": 7}}'),
        )
    )
    insert = f"INSERT INTO {database}.session_events FORMAT JSONEachRow\n".encode()
    assert ask(base, insert + rows, SETTINGS).status == 200
    said: list[str] = []
    migrate(url, say=said.append)
    assert "fill tool_calls: 27 of 27 events" in said
    sql = f"SELECT sum(events), sum(tool_calls), sum(input_tokens) FROM {database}.session_facts"
    assert ask(base, sql).body == b"27\t9\t63\n"
