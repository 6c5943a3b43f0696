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


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"ce_time": b""},
        {"ce_id": b"i" * 257},
        {"ce_id": b""},
        {"ce_subject": "s\u00e9".encode()},
        {"ce_source": b"a\nb"},
        {"ce_specversion": b"0.3"},
        {"content-type": b"\xff"},
        {"traceparent": b""},
        {"traceparent": PARENT.encode() + b" a=b"},
        {"traceparent": PARENT.encode() + b"-" + b"x" * 64},
    ],
)
def test_headers_mean_the_same_in_any_order(change: dict[str, bytes]) -> None:
    """Ours come in one order, which is read at once."""

    def found(given: list[tuple[str, bytes]]) -> Envelope | str:
        try:
            return read(given)
        except Corrupt as error:
            return f"{error.reason}: {error}"

    as_written = headers(**change)
    assert found(as_written) == found(as_written[::-1]) == found([*as_written, ("extra", b"x")])
