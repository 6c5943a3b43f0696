"""What a read-only user may say: each refusal here was a way through before."""

from __future__ import annotations

import pytest

from infra.clickhouse.server.errors import READONLY, SETTING_CONSTRAINT, ClickHouseError
from infra.clickhouse.server.guard import check_locked, check_read_only

pytestmark = pytest.mark.unit

TABLE_FUNCTIONS = ("file", "url", "s3", "numbers", "remote", "input", "format")


def check(
    text: str, *, reads_only: bool = True, statements: int = 1, **params: str
) -> ClickHouseError | None:
    try:
        check_read_only(
            text.encode(),
            reads_only=reads_only,
            statements=statements,
            table_functions=TABLE_FUNCTIONS,
            params=params,
        )
    except ClickHouseError as error:
        return error
    return None


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM url('http://x')",
        "SELECT * FROM `url` ('http://x')",
        "SELECT * FROM \"url\"('http://x')",
        "DESCRIBE s3('http://x/y')",
        "SELECT file('/etc/passwd')",
        "SELECT FILE ('/etc/passwd')",
        "SELECT arrayMap(file, ['/etc/passwd'])",
        "SELECT * APPLY(file) FROM (SELECT '/etc/passwd')",
        "SELECT `fi\\x6ce`('/etc/passwd')",
        "SELECT 1 -- '\n, file('/etc/passwd') -- '",
        "SELECT url/**/('http://x')",
        "SELECT ‘ ' ’, file('x'), ‘ ' ’",
        "SELECT $$ ' $$, file('x'), $$ ' $$",
        "SELECT hasColumnInTable('host', 'u', 'p', 'd', 't', 'c')",
    ],
)
def test_what_reaches_out_is_refused(text: str) -> None:
    error = check(text)
    assert error is not None
    assert error.code == READONLY


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 'file(1) url(2) -- s3('",
        "SELECT url FROM (SELECT 'x' AS url)",
        "SELECT number FROM numbers(10)",
        "SELECT format('{}', data) FROM events",
        "SELECT 1 -- how many\nFROM numbers(1)",
        "SELECT JSONExtractString(data, 'file') FROM events",
    ],
)
def test_what_only_reads_passes(text: str) -> None:
    assert check(text) is None


def test_only_one_statement_that_reads_is_allowed() -> None:
    assert check("SELECT 1; SELECT 2", statements=2) is not None
    assert check("INSERT INTO t VALUES (1)", reads_only=False) is not None
    assert check("KILL QUERY WHERE 1", reads_only=False) is not None
    assert check("SELECT 1 INTO OUTFILE 'x'", reads_only=False) is not None
    assert check("USE turnstile", reads_only=False) is None
    assert check("selec 1", reads_only=False, statements=0) is None


def test_a_forbidden_name_given_as_a_parameter_is_refused() -> None:
    assert check("SELECT arrayMap({f:Identifier}, ['x'])", f="file") is not None
    assert check("SELECT {f:String}", f="file") is None


def test_locked_settings_cannot_be_named() -> None:
    locked = {"max_result_rows", "readonly"}
    with pytest.raises(ClickHouseError, match="max_result_rows should not be changed") as refused:
        check_locked(b"SELECT 1 SETTINGS MAX_RESULT_ROWS = 0", locked)
    assert refused.value.code == SETTING_CONSTRAINT
    check_locked(b"SELECT 1 SETTINGS max_threads = 1", locked)
