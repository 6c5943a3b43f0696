"""ClickHouse's HTTP interface, as plain HTTP clients see it, on the embedded server."""

from __future__ import annotations

import gzip
import http.client
import json
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import cramjam
import pytest

from tests.clickhouse_frames import unpack
from tests.clickhouse_server import Answer, ask, shared_clickhouse

pytestmark = pytest.mark.contract


@pytest.fixture(scope="module")
def base() -> str:
    base = shared_clickhouse().base
    assert ask(base, "CREATE DATABASE IF NOT EXISTS http").status == 200
    return base


@pytest.fixture
def table(base: str) -> str:
    sql = "CREATE OR REPLACE TABLE http.t (a UInt64, s String) ENGINE = MergeTree ORDER BY a"
    assert ask(base, sql).status == 200
    return "http.t"


def count(base: str) -> int:
    return int(ask(base, "SELECT count() FROM http.t").body)


@pytest.mark.parametrize("path", ["/ping", "/replicas_status", "/"])
def test_ping_and_the_root_answer_ok(base: str, path: str) -> None:
    answer = ask(base, method="GET", path=path)
    assert (answer.status, answer.body) == (200, b"Ok.\n")


def test_an_unknown_path_is_a_404_that_names_the_paths(base: str) -> None:
    answer = ask(base, method="GET", path="/nope")
    assert answer.status == 404
    assert b"/ping" in answer.body


def test_a_query_in_the_url_and_in_the_body(base: str) -> None:
    assert ask(base, method="GET", query="SELECT 1").body == b"1\n"
    assert ask(base, "SELECT 1").body == b"1\n"
    assert ask(base, " + 1", query="SELECT 1").body == b"2\n"


def test_a_result_has_the_engines_headers(base: str) -> None:
    answer = ask(base, "SELECT 1 AS x FORMAT JSONEachRow", query_id="mine")
    assert answer.headers["x-clickhouse-format"] == "JSONEachRow"
    assert answer.headers["x-clickhouse-query-id"] == "mine"
    assert answer.headers["x-clickhouse-timezone"]
    assert answer.headers["x-clickhouse-server-display-name"]
    assert json.loads(answer.headers["x-clickhouse-summary"])["result_rows"] == "1"
    assert answer.headers["content-type"].startswith("application/x-ndjson")


def test_a_default_format_holds_where_the_query_names_none(base: str) -> None:
    assert ask(base, "SELECT 1 AS x", default_format="JSONEachRow").body == b'{"x":1}\n'
    assert ask(base, "SELECT 1 FORMAT CSV", default_format="JSON").body == b"1\n"


def test_a_statement_without_a_result_has_no_format(base: str) -> None:
    answer = ask(base, "CREATE DATABASE IF NOT EXISTS http")
    assert (answer.status, answer.body) == (200, b"")
    assert "x-clickhouse-format" not in answer.headers


def test_parameters_are_bound_by_their_types(base: str) -> None:
    sql = "SELECT {n:UInt8} + 1, {s:String}, {l:Array(String)}, {o:Nullable(String)}"
    answer = ask(base, sql, param_n=1, param_s="it's\\tone", param_l="['a','b']", param_o="\\N")
    assert answer.body == b"2\tit\\'s\\tone\t['a','b']\t\\N\n"


def test_a_database_is_that_of_one_request_and_must_exist(base: str, table: str) -> None:
    assert ask(base, "SELECT count() FROM t", database="http").body == b"0\n"
    assert ask(base, "SELECT currentDatabase()").body == b"default\n"
    missing = ask(base, "SELECT 1", database="none")
    assert (missing.status, missing.code) == (404, 81)


def test_settings_count_for_one_request(base: str) -> None:
    sql = "SELECT getSetting('max_threads')"
    assert ask(base, sql, max_threads=7).body == b"7\n"
    assert ask(base, sql).body != b"7\n"


@pytest.mark.parametrize(
    ("sql", "parameters", "status", "code"),
    [
        ("SELECT * FROM none", {}, 404, 60),
        ("SELECT none", {}, 404, 47),
        ("SELECT none()", {}, 404, 46),
        ("SELEC 1", {}, 400, 62),
        ("SELECT 1; SELECT 2", {}, 400, 62),
        ("SELECT 1 FORMAT none", {}, 404, 73),
        ("SELECT 1", {"no_such_setting": 1}, 404, 115),
        ("SELECT {a:UInt8}", {}, 500, 456),
        ("INSERT INTO http.t FORMAT JSONEachRow\n{broken", {}, 400, 26),
        ("SELECT 1", {"user": "eve", "password": "x"}, 403, 516),
        ("SELECT sleep(2)", {"max_execution_time": 0.1}, 408, 159),
        ("SELECT 1", {"decompress": 1}, 404, 115),
    ],
)
def test_errors_have_clickhouses_code_text_and_status(
    base: str, table: str, sql: str, parameters: dict[str, object], status: int, code: int
) -> None:
    answer = ask(base, sql, parameters)
    assert (answer.status, answer.code) == (status, code), answer.body
    assert answer.body.startswith(f"Code: {code}. DB::Exception: ".encode())
    assert answer.body.count(b"(version ") == 1


def test_an_error_in_a_row_leaves_nothing(base: str, table: str) -> None:
    answer = ask(base, '{"a":1,"s":"x"}\n{"a":"x"}', query="INSERT INTO http.t FORMAT JSONEachRow")
    assert answer.status == 400
    assert b"row 2" in answer.body
    assert count(base) == 0


def test_get_changes_nothing(base: str, table: str) -> None:
    for sql in ("INSERT INTO http.t VALUES (1, 'x')", "DROP TABLE http.t"):
        answer = ask(base, method="GET", query=sql)
        assert (answer.status, answer.code) == (500, 164)
    assert count(base) == 0


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("", 'INSERT INTO http.t FORMAT JSONEachRow\n{"a":1,"s":"x"}\n{"a":2,"s":"y"}'),
        ("INSERT INTO http.t FORMAT JSONEachRow", '{"a":1,"s":"x"}\n{"a":2,"s":"y"}'),
        ("", "INSERT INTO http.t VALUES (1, 'x'), (1 + 1, 'y')"),
        ("INSERT INTO http.t VALUES", "(1, 'x'), (2, 'y')"),
        ("INSERT INTO http.t (s, a) FORMAT TabSeparated", "x\t1\ny\t2\n"),
        ("", "INSERT INTO http.t SELECT number + 1, ['x', 'y'][number + 1] FROM numbers(2)"),
    ],
)
def test_an_insert_is_taken_in_every_format(base: str, table: str, query: str, body: str) -> None:
    answer = ask(base, body, {"query": query} if query else {})
    assert answer.status == 200, answer.body
    assert json.loads(answer.headers["x-clickhouse-summary"])["written_rows"] == "2"
    assert ask(base, "SELECT a, s FROM http.t ORDER BY a").body == b"1\tx\n2\ty\n"


def lz4_frames(rows: list[bytes]) -> bytes:
    return b"".join(bytes(cramjam.lz4.compress(row)) for row in rows)


def zstd_frames(rows: list[bytes]) -> bytes:
    return b"".join(bytes(cramjam.zstd.compress(row)) for row in rows)


def gzip_members(rows: list[bytes]) -> bytes:
    return b"".join(gzip.compress(row) for row in rows)


@pytest.mark.parametrize(
    ("encoding", "pack"), [("lz4", lz4_frames), ("zstd", zstd_frames), ("gzip", gzip_members)]
)
def test_a_body_of_several_frames_is_read_whole(
    base: str, table: str, encoding: str, pack: Callable[[list[bytes]], bytes]
) -> None:
    rows = [b'{"a":%d,"s":"%s"}\n' % (number, b"x" * 1000) for number in range(300)]
    answer = ask(
        base,
        pack(rows),
        headers={"Content-Encoding": encoding},
        query="INSERT INTO http.t FORMAT JSONEachRow",
    )
    assert answer.status == 200, answer.body
    assert count(base) == 300


@pytest.mark.parametrize("encoding", ["lz4", "zstd", "gzip"])
def test_answers_are_compressed_when_asked(base: str, encoding: str) -> None:
    sql = "SELECT number FROM numbers(100000)"
    unpack = {"lz4": cramjam.lz4, "zstd": cramjam.zstd, "gzip": cramjam.gzip}[encoding].decompress
    answer = ask(base, sql, headers={"Accept-Encoding": encoding}, wait_end_of_query=1)
    assert answer.headers["content-encoding"] == encoding
    assert bytes(unpack(answer.body)) == ask(base, sql).body
    off = ask(base, sql, headers={"Accept-Encoding": encoding}, enable_http_compression=0)
    assert "content-encoding" not in off.headers


def test_a_large_result_comes_in_pieces_and_is_whole(base: str) -> None:
    streamed = ask(base, "SELECT number FROM numbers(1000000) ORDER BY number")
    assert "content-length" not in streamed.headers
    at_once = ask(base, "SELECT number FROM numbers(1000000) ORDER BY number", wait_end_of_query=1)
    assert int(at_once.headers["content-length"]) == len(at_once.body)
    assert streamed.body == at_once.body


def test_a_session_keeps_what_was_set(base: str) -> None:
    def tell(sql: str, **parameters: object) -> Answer:
        return ask(base, sql, parameters, session_id="s1")

    assert tell("CREATE TEMPORARY TABLE mine (a UInt8)").status == 200
    assert tell("INSERT INTO mine VALUES (5)", max_threads=3).status == 200
    assert tell("SELECT a FROM mine").body == b"5\n"
    assert tell("SELECT getSetting('max_threads')", max_threads=3).body == b"3\n"
    assert tell("SET max_threads = 5", max_threads=3).status == 200
    assert tell("SELECT getSetting('max_threads')", max_threads=3).body == b"3\n"
    assert tell("SELECT getSetting('max_threads')").body == b"5\n"
    assert ask(base, "SELECT a FROM mine", session_id="s2").code == 60
    assert ask(base, "SELECT 1", session_id="s3", session_check=1).code == 372


def test_requests_run_side_by_side(base: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: ask(base, f"SELECT sleep(0.3), {n}").body, range(8)))
    assert answers == [b"0\t%d\n" % n for n in range(8)]


def test_one_session_runs_one_query_at_a_time(base: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda _: ask(base, "SELECT sleep(1.5)", session_id="one"), range(4))
        codes = sorted(answer.code for answer in answers)
    assert codes[0] == 0
    assert codes[-1] == 373


# One column of each kind of type, so that none hides an error in another's place.
EVERY_TYPE = """
SELECT
    number AS u64, toInt8(number) AS i8, toUInt128(number) AS u128, toInt256(number) AS i256,
    toFloat32(number) AS f32, toBool(number % 2) AS b, toString(number * 1000) AS s,
    repeat('x', number * 100) AS long, toFixedString('abc', 5) AS fixed,
    toDate('2026-01-01') AS d, toDate32('2026-01-01') AS d32, toDateTime(number) AS t,
    toDateTime64(number, 6, 'UTC') AS t64, INTERVAL number DAY AS step,
    toDecimal32(1, 2) AS d9, toDecimal64(1, 6) AS d18, toDecimal128(1, 6) AS d38, toDecimal256(1, 6) AS d76,
    generateUUIDv4() AS id, toIPv4('1.2.3.4') AS v4, toIPv6('::1') AS v6,
    CAST('a, (b' AS Enum8('a, (b' = 1, 'it''s' = 2)) AS choice,
    NULL AS nothing, if(number % 2, NULL, toString(number)) AS maybe, tuple() AS empty,
    (number, 'a', [1, 2]) AS t3, CAST((1, 'x'), 'Tuple(a UInt8, `b c` String)') AS named,
    range(number) AS list, [[number], range(number)] AS lists, [] AS no_list,
    map('k', number) AS m, map(toLowCardinality('k'), [toNullable(number)]) AS deep,
    toLowCardinality(toString(number)) AS low, toLowCardinality(if(number % 2, NULL, 'x')) AS low_maybe,
    arrayMap(x -> toLowCardinality(toString(x)), range(number % 3)) AS lows,
    CAST(number, 'SimpleAggregateFunction(max, UInt64)') AS simple,
    CAST([(1, 'a')], 'Nested(x UInt8, y String)') AS nested, (1., 2.)::Point AS point, [(1., 2.)]::Ring AS ring
FROM numbers(300)
"""


def varint(number: int) -> bytes:
    more = [number >> shift & 0x7F | 0x80 for shift in range(0, 70, 7) if number >> shift]
    return bytes([*more[:-1], more[-1] & 0x7F]) if more else b"\0"


def test_a_native_block_of_a_revision_is_what_the_engine_has_column_by_column(base: str) -> None:
    """`Buffers` tells the size of each column's data, so no knowledge of types is needed here."""
    describe = f"DESCRIBE ({EVERY_TYPE}) FORMAT JSONCompactEachRow"
    described = ask(base, describe, print_pretty_type_names=0).body.splitlines()
    sql = EVERY_TYPE.replace("generateUUIDv4()", "toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0')")
    buffers = ask(base, f"{sql} FORMAT Buffers").body
    columns, rows = struct.unpack_from("<QQ", buffers)
    block = b"\x01\x00\x02\xff\xff\xff\xff\x00" + varint(columns) + varint(rows)
    at = 16
    for name, kind, *_ in map(json.loads, described):
        size = struct.unpack_from("<Q", buffers, at)[0]
        words = [varint(len(word)) + word for word in (name.encode(), kind.encode())]
        block += b"".join(words) + b"\0" + buffers[at + 8 : at + 8 + size]
        at += 8 + size
    assert (at, rows) == (len(buffers), 300)
    assert ask(base, sql, default_format="Native", client_protocol_version=54460).body == block


def test_a_native_column_that_cannot_be_given_is_named(base: str) -> None:
    sql = "SELECT groupBitmapState(number) AS state FROM numbers(3) FORMAT Native"
    refused = ask(base, sql, client_protocol_version=54460)
    assert (refused.status, refused.code) == (501, 48)
    assert b"AggregateFunction(groupBitmap, UInt64)" in refused.body
    assert ask(base, sql).status == 200


@pytest.mark.parametrize("method", ["lz4", "zstd"])
def test_answers_in_clickhouses_own_frames(base: str, method: str) -> None:
    sql = "SELECT number FROM numbers(300000) ORDER BY number"
    answer = ask(base, sql, {"network_compression_method": method.upper()}, compress=1)
    assert b"".join(unpack(answer.body)) == ask(base, sql).body
    assert len(answer.body) < len(ask(base, sql).body)


def test_an_error_within_frames_stands_beside_them(base: str) -> None:
    sql = "SELECT throwIf(number = 2000000) FROM numbers(3000000) SETTINGS max_block_size = 1000"
    with pytest.raises(http.client.IncompleteRead) as broken:
        ask(base, sql, compress=1)
    assert b"\r\n__exception__\r\n" in broken.value.partial
    early = ask(base, "SELECT nope", compress=1)
    assert early.code == 47
    assert b"nope" in early.body
