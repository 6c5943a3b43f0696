"""How dead letters read."""

import json

import pytest
from aiokafka.structs import ConsumerRecord

from services.operator.dead.letter import DeadLetter, dead_letter_of, page, table

pytestmark = pytest.mark.unit

MARKS = [
    ("dead_reason", b"bad_value"),
    ("dead_detail", b"content: expected str | array,\ngot int"),
    ("dead_attempts", b"1"),
    ("dead_at", b"2026-11-21T10:00:00.123456Z"),
    ("dead_source", b"turnstile.inputs.v1/4/17"),
]
HEADERS = [("ce_type", b"turn.requested"), ("odd", b"\xff\xfe")]


def letter(value: bytes = b'{"content": 7}', *, with_value: bool = True) -> DeadLetter:
    record = ConsumerRecord(
        topic="turnstile.dead.v1",
        partition=4,
        offset=9,
        timestamp=1,
        timestamp_type=0,
        key=b"ses_1",
        value=value,
        checksum=None,
        serialized_key_size=5,
        serialized_value_size=len(value),
        headers=tuple(HEADERS + MARKS),
    )
    return dead_letter_of(record, with_value=with_value)


def test_a_table_has_one_line_a_letter_with_place_and_reason() -> None:
    heading, line = table([letter()]).splitlines()
    assert heading.startswith("PLACE")
    assert line.startswith("4/9")
    assert "bad_value" in line
    assert "content: expected str | array, got int" in line


def test_a_page_shows_json_indented_and_headers_once() -> None:
    text = page(letter())
    assert '  "content": 7' in text
    assert text.count("bad_value") == 1
    assert "source: turnstile.inputs.v1/4/17" in text


def test_bytes_that_are_no_text_are_shown_all_the_same() -> None:
    text = page(letter(b"\xff{"))
    assert "�{" in text


def test_json_has_everything_but_a_value_that_was_not_asked_for() -> None:
    found = json.loads(json.dumps(letter(with_value=False).as_json()))
    assert found["source"] == "turnstile.inputs.v1/4/17"
    assert found["headers"] == [["ce_type", "turn.requested"], ["odd", "��"]]
    assert found["bytes"] == 14
    assert "value" not in found
