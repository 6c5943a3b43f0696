"""The lexer: where an INSERT ends, which FORMAT a query names."""

from __future__ import annotations

import pytest

from infra.clickhouse.server.statement import Insert, find_insert, first_word, named_format

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "statement", "form", "data"),
    [
        (b"INSERT INTO t FORMAT JSONEachRow\n{}", b"INSERT INTO t ", "JSONEachRow", b"{}"),
        (b"insert into t (a, b) format TSV 1\t2", b"insert into t (a, b) ", "TSV", b"1\t2"),
        (b"INSERT INTO t FORMAT TSV\r\n\t1", b"INSERT INTO t ", "TSV", b"\t1"),
        (b"INSERT INTO t VALUES (1, 'FORMAT X')", b"INSERT INTO t ", "Values", b" (1, 'FORMAT X')"),
        (b"INSERT INTO `format` (`with`) FORMAT Native\n\x00", b"INSERT INTO `format` (`with`) ",
         "Native", b"\x00"),
        (b"INSERT INTO t SETTINGS a = 'FORMAT X' FORMAT CSV\n1",
         b"INSERT INTO t SETTINGS a = 'FORMAT X' ", "CSV", b"1"),
        (b"/* FORMAT X */ INSERT INTO t -- VALUES\n FORMAT CSV\n1",
         b"/* FORMAT X */ INSERT INTO t -- VALUES\n ", "CSV", b"1"),
        (b"INSERT INTO FUNCTION null('a Int8') VALUES (1)",
         b"INSERT INTO FUNCTION null('a Int8') ", "Values", b" (1)"),
        (b"INSERT INTO t;", b"INSERT INTO t", "Values", b""),
    ],
)  # fmt: skip
def test_an_insert_is_cut_where_its_data_begins(
    text: bytes, statement: bytes, form: str, data: bytes
) -> None:
    found = find_insert(text)
    assert found == Insert(statement, form, len(text) - len(data))
    assert text[found.data_at :] == data


@pytest.mark.parametrize(
    "text",
    [b"INSERT INTO t SELECT 1", b"INSERT INTO t WITH x AS (SELECT 1) SELECT * FROM x",
     b"INSERT INTO t (a) (SELECT 1)", b"INSERT INTO t FROM INFILE 'x' FORMAT CSV"],
)  # fmt: skip
def test_an_insert_that_selects_has_no_data(text: bytes) -> None:
    assert find_insert(text) is None


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (b"SELECT 1", None),
        (b"SELECT 1 FORMAT JSON", "JSON"),
        (b"SELECT 1\n format TSV ;", "TSV"),
        (b"SELECT 1 FORMAT CSV SETTINGS max_threads = 1", "CSV"),
        (b"SELECT 'x FORMAT JSON'", None),
        (b"SELECT (SELECT 1 FORMAT JSON)", None),
        (b"SELECT 1 FORMAT Native -- FORMAT CSV", "Native"),
        (b"SELECT format('{}', 1)", None),
    ],
)
def test_the_format_that_a_query_names_is_found(text: bytes, form: str | None) -> None:
    assert named_format(text) == form


@pytest.mark.parametrize(
    ("text", "word"),
    [(b"  select 1", "SELECT"), (b"((SELECT 1))", "SELECT"), (b"", ""), (b"'x'", ""),
     (b"-- hi\n/* there */ with 1 as x select x", "WITH")],
)  # fmt: skip
def test_the_first_word_of_a_statement_is_found(text: bytes, word: str) -> None:
    assert first_word(text) == word
