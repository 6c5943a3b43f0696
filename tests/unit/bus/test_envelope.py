"""The attributes of a record, written and read."""

from __future__ import annotations

import pytest

from shared.bus.envelope import Envelope, read
from shared.errors import Corrupt

pytestmark = pytest.mark.unit
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ENVELOPE = Envelope(
    id="in_1",
    source="/batch-job",
    type="turn.requested",
    time="2026-11-21T12:00:00Z",
    subject="ses_1",
    traceparent=PARENT,
)


def headers(**change: bytes) -> list[tuple[str, bytes]]:
    return list((dict(ENVELOPE.headers()) | change).items())


def test_what_was_written_is_read() -> None:
    assert read(headers()) == ENVELOPE


@pytest.mark.parametrize("name", ["ce_id", "ce_source", "ce_type", "ce_subject", "ce_specversion"])
def test_a_needed_header_that_is_missing_is_named(name: str) -> None:
    with pytest.raises(Corrupt, match=name) as refused:
        read([pair for pair in headers() if pair[0] != name])
    assert refused.value.reason == "missing_header"


@pytest.mark.parametrize("value", [b"\xff", b"a\x00b", b"a\nb", "a\u0085b".encode()])
@pytest.mark.parametrize("name", ["ce_id", "ce_source", "ce_time", "ce_subject"])
def test_a_header_that_is_no_text_is_named(name: str, value: bytes) -> None:
    with pytest.raises(Corrupt, match=name) as refused:
        read(headers(**{name: value}))
    assert refused.value.reason == "bad_header"


def test_an_id_has_at_most_256_characters() -> None:
    assert read(headers(ce_id="é".encode() * 256)).id == "é" * 256
    with pytest.raises(Corrupt, match="ce_id") as refused:
        read(headers(ce_id=b"i" * 257))
    assert refused.value.reason == "bad_header"


@pytest.mark.parametrize("value", [b"\xff", b"00-\x00", b"", "é".encode()])
def test_a_traceparent_that_is_no_text_counts_as_none(value: bytes) -> None:
    assert read(headers(traceparent=value)).traceparent == ""
