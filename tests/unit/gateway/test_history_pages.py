"""The archive is read page by page, one page ahead of what is given on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from services.gateway.ports import Entry
from services.gateway.streams import history
from shared.moment import parse
from shared.session.key import SessionKey
from tests.fakes.gateway import MemoryEventArchive
from tests.unit.gateway.desk import KEY, Desk, an_entry

pytestmark = pytest.mark.unit


class Asked(MemoryEventArchive):
    """Remembers after which seq pages were asked for; from the `breaks`th page on it is down."""

    def __init__(self, count: int, breaks: int | None = None) -> None:
        super().__init__(entries={KEY: [an_entry(seq) for seq in range(1, count + 1)]})
        self.after: list[int] = []
        self.breaks = breaks

    async def page(self, key: SessionKey, after: int, limit: int) -> Sequence[Entry]:
        self.after.append(after)
        self.down = self.breaks is not None and len(self.after) >= self.breaks
        return await super().page(key, after, limit)


def a_history(monkeypatch: pytest.MonkeyPatch, archive: Asked) -> tuple[Desk, history.History]:
    monkeypatch.setattr(history, "PAGE", 2)
    desk = Desk()
    return desk, history.History(archive, desk.log, desk.live, desk.read_model)


async def test_the_next_page_is_on_its_way_while_one_is_given_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive = Asked(5)
    _, read = a_history(monkeypatch, archive)
    entries = read.read(KEY, 0, 5)
    assert (await anext(entries)).seq == 1
    await asyncio.sleep(0)
    assert archive.after == [0, 2]
    assert [entry.seq async for entry in entries] == [2, 3, 4, 5]
    assert archive.after == [0, 2, 4]


async def test_a_reader_that_stops_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    _, read = a_history(monkeypatch, Asked(5, breaks=2))
    before = asyncio.all_tasks()
    entries = read._archived(KEY, history._Walk(0), 5, True)
    await anext(entries)
    assert len(asyncio.all_tasks() - before) == 1
    await entries.aclose()  # type: ignore[attr-defined]
    assert asyncio.all_tasks() == before


async def test_what_the_archive_no_longer_gives_comes_from_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive = Asked(5, breaks=2)
    desk, read = a_history(monkeypatch, archive)
    desk.log.entries[KEY] = [an_entry(seq) for seq in range(1, 6)]
    await desk.open()
    assert [entry.seq async for entry in read.read(KEY, 0, 5)] == [1, 2, 3, 4, 5]
    assert desk.log.scans == 1


async def test_the_log_is_not_searched_by_a_publishers_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`turn.accepted` has its publisher's time: what follows it on the log may lie hours before that."""
    archive = Asked(3)
    archive.entries[KEY][2] = replace(
        an_entry(3), type="turn.accepted", at="2026-11-21T21:00:00.000000Z"
    )
    desk, read = a_history(monkeypatch, archive)
    desk.log.entries[KEY] = [an_entry(seq) for seq in range(1, 6)]
    await desk.open()
    for after in (0, 3):
        assert [e.seq async for e in read.read(KEY, after, 5)] == list(range(after + 1, 6))
        assert desk.log.since is not None
        assert desk.log.since <= parse(an_entry(2).at)


async def test_a_hole_in_the_archive_ends_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Asked(6)
    del archive.entries[KEY][2]
    _, read = a_history(monkeypatch, archive)
    entries = read._archived(KEY, history._Walk(0), 6, True)
    assert [entry.seq async for entry in entries] == [1, 2]
