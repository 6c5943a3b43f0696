"""Readers and inserts notice nothing of a rebuild. Real engine, all at once."""

from __future__ import annotations

import threading

import pytest

from services.recorder.archive import ClickHouseWriter
from tests.clickhouse_archive import emptied_archive
from tests.clickhouse_rows import event, turn
from tests.integration.test_archive_rebuild import TABLES, connected, left_over, of
from tests.integration.test_archive_sums import wrong

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


class Reader(threading.Thread):
    """Reads sums in a loop until told to stop; remembers what can't have been true at that moment."""

    def __init__(self, url: str, inserter: Inserter) -> None:
        super().__init__(daemon=True)
        self._url, self._inserter, self._told = url, inserter, threading.Event()
        self.looks, self.wrong = 0, list[str]()

    def run(self) -> None:
        sql = (
            "SELECT (SELECT count() FROM turn_facts), (SELECT count() FROM tool_call_facts),"
            " (SELECT sum(turns) FROM session_facts), (SELECT sum(tool_calls) FROM session_facts),"
            " (SELECT sum(events) FROM session_facts), (SELECT sum(turns) FROM tenant_days)"
        )
        with connected(self._url) as client:
            while not self._told.is_set():
                least = self._inserter.done
                try:
                    turns, tools, *sums = client.query(sql).result_rows[0]
                except Exception as error:
                    self.wrong.append(str(error))
                    return
                most = self._inserter.begun
                seen = [turns, tools, sums[0], sums[1], sums[2] / EVENTS_EACH, sums[3]]
                if not all(least <= number <= most for number in seen):
                    self.wrong.append(f"{seen}, but {least} to {most} were there")
                self.looks += 1

    def stop(self) -> None:
        self._told.set()
        self.join(60)


EVENTS_EACH = 3


class Inserter(threading.Thread):
    """Inserts a session of one turn with one tool call, again and again, some of them twice."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._writer, self._told = ClickHouseWriter(url, timeout=60), threading.Event()
        self.begun = self.done = 0
        self.error: Exception | None = None

    def insert(self) -> None:
        session = f"ses_{self.begun:06}"
        self.begun += 1
        body = b"".join(
            (
                event(1, "session.opened", session_id=session),
                event(2, "agent.tool_use", f'{{"id": "t_{session}"}}', session_id=session),
                event(3, "turn.completed", turn("completed", 0.5), session_id=session),
            )
        )
        for _ in range(1 + self.begun % 2):
            self._writer.insert(body)
        self.done += 1

    def run(self) -> None:
        try:
            while not self._told.is_set():
                self.insert()
        except Exception as error:
            self.error = error

    def stop(self) -> None:
        self._told.set()
        self.join(60)
        self._writer.close()


def test_readers_and_inserts_notice_nothing() -> None:
    empty = emptied_archive()
    inserter = Inserter(empty)
    for _ in range(60):
        inserter.insert()
    inserter.start()
    readers = [Reader(empty, inserter) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        with connected(empty) as client:
            for table in TABLES:
                of(client, table, piece_rows=60).run()
            assert left_over(client) == []
        seen = [reader.looks for reader in readers]
    finally:
        for reader in readers:
            reader.stop()
        inserter.stop()
    assert inserter.error is None
    assert [reader.wrong for reader in readers] == [[], []]
    assert min(seen) > 3, "too few looks meanwhile"
    assert inserter.done > 70, "too few inserts meanwhile"
    assert wrong(empty) == []
