"""What makes a record a row, and what names a batch."""

from __future__ import annotations

from typing import Any

import pytest

from services.recorder.rows import MAX_ENDS, Batch, body, kept, read_row
from shared.errors import Corrupt
from tests.unit.recorder.records import FakeRecord, value

pytestmark = pytest.mark.unit


def test_a_good_event_is_read_without_its_data() -> None:
    row = read_row(value(7))
    assert (row.tenant_id, row.session_id, row.seq, row.type) == (
        "acme",
        "ses_1",
        7,
        "agent.message",
    )


@pytest.mark.parametrize(
    ("bad", "reason", "words"),
    [
        (None, "empty_value", "no value"),
        (b"", "empty_value", "no value"),
        (b"{", "invalid_json", "truncated"),
        (b"[]", "invalid_event", "Expected `object`"),
        (value() + b"{}", "invalid_json", "trailing"),
        (b"\xff" + value(), "invalid_json", ""),
        (value().replace(b"acme", b"\xff\xfe"), "invalid_json", "not UTF-8"),
        (b'{"data":' + b"[" * 100_000, "invalid_json", "too deeply"),
        (value(tenant_id=""), "invalid_event", "$.tenant_id"),
        (value(session_id=5), "invalid_event", "$.session_id"),
        (value(seq=0), "invalid_event", "$.seq"),
        (value(seq="1"), "invalid_event", "$.seq"),
        (value(at="yesterday"), "invalid_event", "$.at"),
        (value(at="2026-11-21T10:00:00"), "invalid_event", "$.at"),
        (value(data=[1]), "invalid_event", "$.data"),
        (value(data="text"), "invalid_event", "$.data"),
        (value(trace_id=None), "invalid_event", "$.trace_id"),
        (value().replace(b'"seq"', b'"sequence"'), "invalid_event", "seq"),
    ],
)
def test_a_bad_event_says_what_is_wrong(bad: bytes | None, reason: str, words: str) -> None:
    with pytest.raises(Corrupt) as caught:
        read_row(bad)
    assert caught.value.reason == reason
    assert words in str(caught.value)


def test_the_reason_never_quotes_the_content() -> None:
    with pytest.raises(Corrupt) as caught:
        read_row(value(seq="my secret wish", data={"text": "my secret wish"}))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", [rb"\ud83d", rb"\uDE00\ud83d", rb"a \\ud83d b \ud83d"])
def test_half_a_surrogate_pair_is_no_fault(text: bytes) -> None:
    assert read_row(value().replace(b"sevt_1", text)).seq == 1


def test_the_body_is_the_values_as_they_are() -> None:
    first, second = b'{"a" :  1}', value(2)
    assert body([FakeRecord(first), FakeRecord(second)]) == first + b"\n" + second


def test_a_batch_keeps_the_traces_of_turns_that_ended_but_no_more_than_it_can_tell_of() -> None:
    batch = Batch()
    for seq in range(1, MAX_ENDS + 10):
        parent = f"00-{seq:032x}-b7ad6b7169203331-01"
        ended = value(seq, type="turn.completed")
        assert batch.add(FakeRecord(ended, seq, headers=[("traceparent", parent.encode())]))
    assert len(batch.rows) == MAX_ENDS + 9
    assert list(batch.ends) == [
        f"00-{seq:032x}-b7ad6b7169203331-01" for seq in range(1, MAX_ENDS + 1)
    ]


def test_a_record_that_is_kept_says_what_the_consumers_said() -> None:
    nothing: Any = None
    headers = [
        ("ce_source", b"/other"),
        ("traceparent", b"\xff"),
        ("empty", b""),
        ("none", nothing),
    ]
    record = FakeRecord(value(3), 7, partition=2, key=None, headers=headers)
    for name, said in vars(record).items():
        assert getattr(kept(record), name) == said


def test_a_record_that_is_kept_says_whether_its_session_is_erased() -> None:
    batch = Batch()
    batch.add(FakeRecord(value(1, data={"text": "session.erased"})))
    batch.add(FakeRecord(value(2, type="session.erased")))
    assert [record.erases for record in batch.rows] == [False, True]
