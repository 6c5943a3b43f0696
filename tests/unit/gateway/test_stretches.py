"""Stretches of events out of an answer of ClickHouse: whole records in order, or an error; who may hold a query."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest

from services.gateway.adapters import clickhouse, clickhouse_stretches
from services.gateway.adapters.clickhouse import ClickHouseEventArchive
from services.gateway.adapters.clickhouse_stretches import BrokenAnswer, Stretches
from services.gateway.ports import Stretch
from shared.errors import Transient
from tests.unit.gateway.desk import KEY, an_entry

pytestmark = pytest.mark.unit
COUNT = 40
RECORDS = b"".join(an_entry(seq).record for seq in range(1, COUNT + 1))
ERROR = (
    b"\r\n__exception__\r\ntag\r\nCode: 159. DB::Exception: Timeout exceeded.\n\nIn all.\n"
    b"40 tag\r\n__exception__\r\n"
)


class Answer(io.BytesIO):
    """What clickhouse-connect gives of a raw stream; `cut`: the connection ends before the answer does."""

    def __init__(self, content: bytes, *, cut: bool = False) -> None:
        super().__init__(content)
        self.cut = cut
        self.over = asyncio.Event()

    def read(self, size: int | None = -1, *, decode_content: bool = True) -> bytes:
        piece = super().read(size)
        if not piece and self.cut:
            raise ConnectionError
        return piece

    def shutdown(self) -> None:
        """No read is under way."""

    def close(self) -> None:
        self.over.set()
        super().close()


def told(content: bytes, after: int = 0, *, cut: bool = False) -> list[Stretch]:
    """All stretches of an answer. Raises what `next` raises."""
    return list(iter(Stretches(lambda: Answer(content, cut=cut), after).next, None))


@pytest.mark.parametrize("size", [1, 7, 200, 1_000, 1_000_000])
def test_an_answer_is_cut_between_records_whatever_comes_at_once(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(clickhouse_stretches, "PIECE_BYTES", size)
    found = told(RECORDS)
    assert b"".join(stretch.record for stretch in found) == RECORDS
    assert sum(stretch.count for stretch in found) == found[-1].seq == COUNT
    newest = an_entry(COUNT)
    assert (found[-1].type, found[-1].at) == (newest.type, newest.at)
    for stretch in found:
        assert stretch.record.endswith(an_entry(stretch.seq).record)
        assert stretch.record.startswith(an_entry(stretch.seq - stretch.count + 1).record)


def test_an_answer_without_an_event_is_no_stretch() -> None:
    assert told(b"") == []


@pytest.mark.parametrize("size", [1, 200, 1_000_000])
@pytest.mark.parametrize(
    ("after", "broken"),
    [
        (0, RECORDS + ERROR),
        (0, RECORDS[:-40] + ERROR),
        (0, RECORDS[:-1]),
        (0, RECORDS[:-40]),
        (0, ERROR),
        (1, RECORDS),
        (0, RECORDS + b"Code: 241. DB::Exception: Memory limit exceeded"),
    ],
)
def test_what_is_not_the_next_records_is_an_error_and_never_told(
    monkeypatch: pytest.MonkeyPatch, size: int, after: int, broken: bytes
) -> None:
    monkeypatch.setattr(clickhouse_stretches, "PIECE_BYTES", size)
    stretches, found = Stretches(lambda: Answer(broken), after), list[Stretch]()
    with pytest.raises(BrokenAnswer):
        found.extend(iter(stretches.next, None))
    assert RECORDS.startswith(b"".join(stretch.record for stretch in found))


def test_a_connection_that_ends_early_is_an_error() -> None:
    with pytest.raises(ConnectionError):
        told(RECORDS, cut=True)


def test_a_query_that_is_closed_while_it_is_asked_is_closed_once_it_answers() -> None:
    answer = Answer(RECORDS)

    def ask() -> Answer:
        stretches.close()
        return answer

    stretches = Stretches(ask, 0)
    stretches.next()
    assert answer.closed


class Server:
    """ClickHouse as the archive sees it: its answers, one for each query."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, size: int = 1_000) -> None:
        monkeypatch.setattr(clickhouse_stretches, "PIECE_BYTES", size)
        self.archive = ClickHouseEventArchive("http://nowhere")
        self.answers = list[Answer]()
        self.asked = list[int]()
        monkeypatch.setattr(self.archive, "_stream", self.stream)

    def stream(self, parameters: dict[str, Any]) -> Answer:
        after = parameters["after"]
        self.asked.append(after)
        rest = (an_entry(seq).record for seq in range(after + 1, parameters["until"] + 1))
        self.answers.append(Answer(b"".join(rest)))
        return self.answers[-1]


async def test_who_reads_on_is_answered_by_one_query(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch)
    found = [stretch async for stretch in server.archive.stretches(KEY, 0, COUNT)]
    assert len(found) > 2
    assert b"".join(stretch.record for stretch in found) == RECORDS
    assert server.asked == [0]


async def test_who_does_not_read_on_holds_no_query_and_gets_the_rest_from_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clickhouse, "LENT_SECONDS", 0.001)
    server = Server(monkeypatch)
    stretches = server.archive.stretches(KEY, 0, COUNT)
    first = await anext(stretches)
    async with asyncio.timeout(5):
        await server.answers[0].over.wait()
    monkeypatch.setattr(clickhouse, "LENT_SECONDS", 60.0)
    rest = [stretch.record async for stretch in stretches]
    assert b"".join([first.record, *rest]) == RECORDS
    assert server.asked == [0, first.seq]


async def test_no_query_lasts_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clickhouse, "QUERY_SECONDS", 0.0)
    server = Server(monkeypatch)
    found = [stretch async for stretch in server.archive.stretches(KEY, 0, COUNT)]
    assert b"".join(stretch.record for stretch in found) == RECORDS
    assert server.asked == [0, *(stretch.seq for stretch in found[:-1])]


async def test_a_reader_that_is_gone_leaves_no_query_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server(monkeypatch)
    stretches = server.archive.stretches(KEY, 0, COUNT)
    await anext(stretches)
    await stretches.aclose()
    assert server.answers[0].closed


async def test_more_readers_than_queries_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clickhouse, "QUERIES", 1)
    server = Server(monkeypatch)
    first, second = (server.archive.stretches(KEY, 0, COUNT) for _ in range(2))
    await anext(first)
    waiting = asyncio.create_task(anext(second))
    await asyncio.sleep(0)
    assert server.asked == [0]
    await first.aclose()
    assert (await waiting).seq >= 1
    assert server.asked == [0, 0]
    await second.aclose()


async def test_who_gets_no_turn_in_time_is_told_to_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clickhouse, "QUERIES", 1)
    monkeypatch.setattr(clickhouse, "SECONDS", 0.01)
    server = Server(monkeypatch)
    first = server.archive.stretches(KEY, 0, COUNT)
    await anext(first)
    with pytest.raises(Transient):
        await anext(server.archive.stretches(KEY, 0, COUNT))
    await first.aclose()
