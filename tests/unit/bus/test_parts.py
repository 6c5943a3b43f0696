"""An event larger than a record may be travels in parts, and is whole again however they arrive."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from shared.bus.envelope import Headers
from shared.bus.parts import STALE_SECONDS, Joiner, split

pytestmark = pytest.mark.unit
PLACE = ("turnstile.events.v1", 0)
HEADERS: Headers = [
    ("ce_source", b"/w/acme"),
    ("content-type", b"application/json"),
    ("traceparent", b"00-a"),
]


@dataclass(frozen=True)
class Said:
    """A record as any consumer has it."""

    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    offset: int = 0
    partition: int = 0
    topic: str = PLACE[0]
    key: bytes | None = b"ses_1"


def body(seq: int, size: int = 100) -> bytes:
    words = bytes(random.Random(seq).randrange(97, 123) for _ in range(size))
    return b'{"tenant_id":"acme","session_id":"ses_1","seq":%d,"data":{"text":"%b"}}' % (seq, words)


def said(seq: int, size: int = 100, most: int = 64, headers: Headers = HEADERS) -> list[Said]:
    return [Said(value, marks) for value, marks in split(body(seq, size), headers, seq, most)]


def joined(joiner: Joiner, records: list[Said]) -> list[Said]:
    numbered = [replace(record, offset=offset) for offset, record in enumerate(records)]
    return [whole for record in numbered if (whole := joiner.join(record)) is not None]


def test_what_fits_is_one_record_as_it_was() -> None:
    assert list(split(b"x" * 64, HEADERS, 1, 64)) == [(b"x" * 64, HEADERS)]
    record = Said(b"{}", HEADERS)
    assert Joiner().join(record) is record


@pytest.mark.parametrize("size", [1, 64, 65, 128, 1000, 9999])
def test_no_part_is_too_large_and_all_together_are_the_event(size: int) -> None:
    parts = said(1, size)
    assert all(len(part.value or b"") <= 64 for part in parts)
    (whole,) = joined(Joiner(), parts)
    assert whole.value == body(1, size)
    assert whole.offset == len(parts) - 1


def test_parts_say_which_they_are_and_are_no_json() -> None:
    first, *_, last = said(7, 200)
    marks = dict(first.headers)
    assert (marks["part"], marks["part_seq"], marks["content-type"]) == (
        b"1/5",
        b"7",
        b"application/octet-stream",
    )
    assert (marks["ce_source"], marks["traceparent"]) == (b"/w/acme", b"00-a")
    assert dict(last.headers)["part"] == b"5/5"


def test_the_whole_event_is_told_apart_from_a_part() -> None:
    (whole,) = joined(Joiner(), said(7, 200))
    assert not {"part", "part_seq"} & {name for name, _ in whole.headers}


def test_parts_of_a_driver_that_died_are_completed_by_the_next_telling() -> None:
    joiner = Joiner()
    dead, again = said(1, 300)[:2], said(1, 300)
    assert [one.value for one in joined(joiner, [*dead, *again])] == [body(1, 300)]
    assert joiner.first(PLACE) is None


def test_two_drivers_that_say_an_event_at_once_fill_one_set() -> None:
    one, two = said(1, 300), said(1, 300)
    mixed = [one[0], two[0], one[1], two[1], two[2], *one[3:]]
    assert [found.value for found in joined(Joiner(), [*mixed, one[2]])] == [body(1, 300)]


def test_parts_of_other_sessions_and_tenants_in_between_are_theirs() -> None:
    mine = said(1, 300)
    theirs = [replace(part, key=b"ses_2") for part in said(1, 280)]
    others = said(1, 290, headers=[("ce_source", b"/w/umbrella")])
    mixed = [part for three in zip(mine, theirs, others, strict=True) for part in three]
    assert {found.value for found in joined(Joiner(), mixed)} == {
        body(1, 300),
        body(1, 280),
        body(1, 290),
    }


def test_the_place_to_begin_anew_is_the_first_part_of_what_is_not_whole() -> None:
    joiner = Joiner()
    first, second, *rest = said(1, 300)
    joiner.join(replace(first, offset=41))
    joiner.join(replace(second, offset=43))
    assert joiner.first(PLACE) == 41
    assert joiner.first((PLACE[0], 1)) is None
    for part in rest:
        joiner.join(replace(part, offset=50))
    assert joiner.first(PLACE) is None


def test_a_later_event_of_the_session_ends_the_wait_for_a_repeat() -> None:
    joiner = Joiner()
    parts = said(1, 300)
    joined(joiner, [*parts, parts[0]])
    assert joiner.first(PLACE) == len(parts)
    joined(joiner, [replace(one, key=b"ses_2") for one in said(2, 1, most=999)])
    assert joiner.first(PLACE) == len(parts), "another session's event says nothing of this one's"
    joined(joiner, said(2, 1, most=999))
    assert joiner.first(PLACE) is None


def test_an_earlier_event_said_again_in_between_changes_nothing() -> None:
    parts = said(5, 300)
    mixed = [*parts[:2], *said(4, 1, most=999), *parts[2:]]
    assert [one.value for one in joined(Joiner(), mixed)] == [body(4, 1), body(5, 300)]


def test_what_nobody_finishes_is_not_kept_for_ever() -> None:
    now = [0.0]
    joiner = Joiner(lambda: now[0])
    joined(joiner, said(1, 300)[:2])
    now[0] = STALE_SECONDS + 1
    joined(joiner, [replace(one, key=b"ses_2") for one in said(1, 1, most=999)])
    assert joiner.first(PLACE) is None


def test_partitions_that_went_elsewhere_are_forgotten() -> None:
    joiner = Joiner()
    joined(joiner, said(1, 300)[:2])
    joiner.keep({PLACE})
    assert joiner.first(PLACE) == 0
    joiner.keep(())
    assert joiner.first(PLACE) is None


@pytest.mark.parametrize("mark", [b"", b"x", b"1", b"0/3", b"4/3", b"1/2/3"])
def test_marks_that_make_no_sense_are_no_marks(mark: bytes) -> None:
    record = Said(b"{}", [("part", mark), ("part_seq", b"1")])
    assert Joiner().join(record) is record
