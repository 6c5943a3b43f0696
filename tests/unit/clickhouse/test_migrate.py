"""Migrations: order, checksums, and rules for the files themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra.clickhouse.migrate import (
    Migration,
    MigrationError,
    migrate,
    missing,
    read_migrations,
    split,
)

pytestmark = pytest.mark.unit


def a_migration(version: int, checksum: str = "c") -> Migration:
    return Migration(version, f"{version:04}_x", checksum, ("SELECT 1",))


FILES = [a_migration(1), a_migration(2), a_migration(3)]


def test_statements_end_with_a_semicolon_at_the_end_of_a_line() -> None:
    assert split("-- a;\nSELECT 1;\nSELECT ';'\n;\n\n") == ("SELECT 1", "SELECT ';'")


def test_only_what_is_missing_runs() -> None:
    assert missing(FILES, {}) == FILES
    assert missing(FILES, {1: ("0001_x", "c"), 2: ("0002_x", "c")}) == FILES[2:]


def test_a_changed_file_is_named() -> None:
    with pytest.raises(MigrationError, match=r"0001_x\.sql was changed"):
        missing(FILES, {1: ("0001_x", "other")})


def test_a_hole_is_named() -> None:
    with pytest.raises(MigrationError, match=r"0001_x\.sql was never applied"):
        missing(FILES, {2: ("0002_x", "c")})


def test_a_newer_schema_is_named() -> None:
    with pytest.raises(MigrationError, match="0004_y, newer than this program"):
        missing(FILES, {4: ("0004_y", "c")})


@pytest.mark.parametrize(
    ("names", "said"),
    [(["0001_a.sql", "0003_b.sql"], "0002 expected"), (["1_a.sql"], "NNNN_name"),
     (["0001_a.sql", "0001_b.sql"], "0002 expected")],
)  # fmt: skip
def test_files_are_numbered_without_holes(tmp_path: Path, names: list[str], said: str) -> None:
    for name in names:
        (tmp_path / name).write_text("SELECT 1;\n")
    with pytest.raises(MigrationError, match=said):
        read_migrations(tmp_path)


def test_every_statement_can_be_run_twice() -> None:
    from infra.clickhouse.migrate import MIGRATIONS

    for migration in read_migrations(MIGRATIONS):
        for statement in migration.statements:
            once = r"CREATE (TABLE|VIEW|MATERIALIZED VIEW) IF NOT EXISTS |CREATE OR REPLACE VIEW "
            again = r"|ALTER .*IF NOT |ALTER TABLE \w+ MODIFY (SETTING|COLUMN|QUERY)\s"
            assert re.match(once + again, statement), migration.name


@pytest.mark.parametrize("url", ["localhost:8123", "ftp://x/y", "http:///y", "http://h/a-b"])
def test_a_bad_url_is_refused_before_anything_runs(url: str) -> None:
    with pytest.raises(MigrationError):
        migrate(url)
