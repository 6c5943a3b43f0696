"""Codes, texts and statuses."""

from __future__ import annotations

import pytest

from infra.clickhouse.server.answer import broken_stream, error_reply
from infra.clickhouse.server.errors import ClickHouseError, engine_errors, from_engine, refuse

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("message", "code", "status", "text"),
    [
        ("Code: 60. DB::Exception: Unknown table. (UNKNOWN_TABLE)", 60, 404,
         "Code: 60. DB::Exception: Unknown table. (UNKNOWN_TABLE)"),
        ("Streaming insert finish failed: Code: 27. DB::Exception: Bad. (X) (version 26.9.2.1)", 27, 400,
         "Code: 27. DB::Exception: Bad. (X)"),
        ("Code: 164. DB::Exception: Code: 164. DB::Exception: No. (READONLY) (version 26.9). (READONLY)", 164, 500,
         "Code: 164. DB::Exception: No. (READONLY)"),
        ("something else", 1002, 500, "Code: 1002. DB::Exception: something else. (UNKNOWN_EXCEPTION)"),
    ],
)  # fmt: skip
def test_the_engines_words_are_kept(message: str, code: int, status: int, text: str) -> None:
    error = from_engine(message)
    assert (error.code, error.status, error.text) == (code, status, text)


@pytest.mark.parametrize(
    ("code", "status"),
    [(62, 400), (47, 404), (81, 404), (115, 404), (194, 401), (516, 403), (497, 403), (159, 408),
     (48, 501), (202, 503), (164, 500), (396, 500)],
)  # fmt: skip
def test_statuses_are_those_of_the_real_server(code: int, status: int) -> None:
    assert ClickHouseError(code, "").status == status


def test_every_error_of_the_engine_leaves_as_one_kind() -> None:
    with pytest.raises(ClickHouseError) as caught, engine_errors():
        raise RuntimeError("Code: 47. DB::Exception: x. (UNKNOWN_IDENTIFIER)")
    assert caught.value.code == 47


def test_an_error_reply_carries_code_and_version() -> None:
    status, headers, body = error_reply(refuse(202, "Too many"), "26.9.2.1")
    assert status == 503
    assert (b"x-clickhouse-exception-code", b"202") in headers
    expected = b"Code: 202. DB::Exception: Too many. (TOO_MANY_SIMULTANEOUS_QUERIES)"
    assert body == expected + b" (version 26.9.2.1)\n"


def test_a_broken_stream_ends_between_its_marks() -> None:
    ending = broken_stream(refuse(202, "x"), "abc")
    assert ending.startswith(b"\r\n__exception__\r\nabc\r\nCode: 202")
    assert ending.endswith(b" abc\r\n__exception__\r\n")
