"""One suite for the recorder's Writer: the fake of its unit tests, and ClickHouse."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Protocol

import clickhouse_connect
import pytest

from infra.clickhouse.migrate import migrate
from services.recorder.archive import Away, ClickHouseWriter, Refused
from services.recorder.ports import ArchiveWriter
from tests.clickhouse_server import fresh_database
from tests.unit.recorder.records import FakeWriter, value

pytestmark = pytest.mark.contract
BAD = value("no number")


class Table(Protocol):
    """Where a writer writes to; seqs of the events that are seen there, sorted."""

    @property
    def writer(self) -> ArchiveWriter: ...
    def seqs(self) -> list[int]: ...
    def away(self) -> ArchiveWriter:
        """A writer to a place that does not answer."""
        ...


class MemoryTable:
    def __init__(self) -> None:
        self.writer = FakeWriter(refuses={BAD})

    def seqs(self) -> list[int]:
        return sorted({json.loads(row)["seq"] for row in self.writer.rows})

    def away(self) -> ArchiveWriter:
        return FakeWriter(Away("nobody there"))


class ClickHouseTable:
    def __init__(self, url: str) -> None:
        self._url = url
        self.writer = ClickHouseWriter(url, timeout=10)

    def seqs(self) -> list[int]:
        client = clickhouse_connect.get_client(dsn=self._url, autogenerate_session_id=False)
        try:
            found = client.query("SELECT seq FROM events ORDER BY seq").result_rows
        finally:
            client.close()
        return [row[0] for row in found]

    def away(self) -> ArchiveWriter:
        return ClickHouseWriter("http://default:@127.0.0.1:9/turnstile", timeout=1)


@pytest.fixture(params=["memory", "clickhouse"])
async def table(request: pytest.FixtureRequest) -> Table:
    if request.param == "memory":
        return MemoryTable()
    url = fresh_database(request.getfixturevalue("clickhouse_url"))
    await asyncio.to_thread(migrate, url, say=lambda _: None)
    return ClickHouseTable(url)


def body(rows: Sequence[bytes]) -> bytes:
    return b"\n".join(rows)


async def test_rows_are_there_when_an_insert_returns(table: Table) -> None:
    table.writer.insert(body([value(n) for n in range(1, 101)]))
    assert table.seqs() == list(range(1, 101))


async def test_a_repeat_changes_nothing_that_is_seen(table: Table) -> None:
    rows = body([value(1), value(2)])
    for _ in range(3):
        table.writer.insert(rows)
    table.writer.insert(body([value(3)]))
    assert table.seqs() == [1, 2, 3]


async def test_a_bad_row_is_refused_and_takes_the_others_with_it(table: Table) -> None:
    with pytest.raises(Refused) as caught:
        table.writer.insert(body([value(1), BAD, value(2)]))
    assert caught.value.code
    assert table.seqs() == []
    table.writer.insert(body([value(1), value(2)]))
    assert table.seqs() == [1, 2]


async def test_a_place_that_does_not_answer_is_away(table: Table) -> None:
    with pytest.raises(Away):
        table.away().insert(value(1))
