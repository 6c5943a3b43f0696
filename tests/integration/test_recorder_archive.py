"""Events of a real Kafka arrive in the real engine: verbatim, once in the views, however often they come."""

from __future__ import annotations

import pytest

from services.recorder.archive import Away, ClickHouseWriter
from tests.clickhouse_server import clickhouse_url
from tests.integration.recorder_rig import event, events, rig, until

__all__ = ["clickhouse_url"]
pytestmark = pytest.mark.integration

VERBATIM = [
    b'{ "b" : 1,\t"a":2, "a_b": 1.0e5 }',
    b'{"text":"\\u00e9 \\/ \\ud83d\\ude00 \xf0\x9f\x98\x80 \\n","big":123456789012345678901234567890}',
    b'{"nested":{"empty":{},"list":[ ],"null":null,"t":true},"":"empty key"}',
    b'{"half":"\\ud83d"}',
]


async def test_data_arrives_verbatim(kafka_bootstrap: str, clickhouse_url: str) -> None:
    own = await rig(kafka_bootstrap, clickhouse_url)
    await own.publish([event(seq, data=data) for seq, data in enumerate(VERBATIM, 1)])
    async with own.recording():
        await until(own.count, lambda count: count == len(VERBATIM))
    rows = await own.query("SELECT data, tenant_id, session_id, at FROM events ORDER BY seq")
    assert [row[0].encode() for row in rows] == VERBATIM
    assert rows[0][1:3] == ("acme", "ses_1")
    assert rows[0][3].isoformat().startswith("2026-11-21T10:00:01.000001")


async def test_offsets_are_committed_after_the_insert(
    kafka_bootstrap: str, clickhouse_url: str
) -> None:
    own = await rig(kafka_bootstrap, clickhouse_url)
    await own.publish(events(1, 50))
    async with own.recording():
        await until(own.count, lambda count: count == 50)
    assert await own.committed() == 50


async def test_the_same_records_twice_are_one_row_each(
    kafka_bootstrap: str, clickhouse_url: str
) -> None:
    own = await rig(kafka_bootstrap, clickhouse_url)
    async with own.recording():
        await own.publish(events(1, 40))
        await own.publish(events(1, 40))
        await own.publish(events(41, 41))
        await until(own.count, lambda count: count == 41)
        await until(own.committed, lambda offset: offset == 81)
    found = await own.query("SELECT seq, count() FROM events GROUP BY seq ORDER BY seq")
    assert [tuple(row) for row in found] == [(seq, 1) for seq in range(1, 42)]


async def test_rewound_offsets_leave_one_row_each(
    kafka_bootstrap: str, clickhouse_url: str
) -> None:
    own = await rig(kafka_bootstrap, clickhouse_url)
    turn = event(31, type="turn.completed", data=b'{"turn_id":"turn_1","status":"completed"}')
    await own.publish([*events(1, 30), turn])
    async with own.recording():
        await until(own.count, lambda count: count == 31)
    await own.rewind()
    async with own.recording():
        await until(own.committed, lambda offset: offset == 31)
    assert await own.count() == 31
    assert await own.count("turn_facts") == 1


async def test_a_restart_between_insert_and_commit_repeats_nothing(
    kafka_bootstrap: str, clickhouse_url: str
) -> None:
    own = await rig(kafka_bootstrap, clickhouse_url)
    await own.publish(events(1, 30))
    real = ClickHouseWriter(own.url, timeout=10)

    class Dies:
        """Inserts, and the process is gone before it hears so."""

        def insert(self, body: bytes) -> None:
            real.insert(body)
            raise RuntimeError("gone")

    async with own.recording(Dies()) as running:
        with pytest.raises(RuntimeError, match="gone"):
            await running
    assert await own.count() == 30
    assert await own.committed() == 0
    await own.publish(events(31, 35))
    async with own.recording():
        await until(own.committed, lambda offset: offset == 35)
    assert await own.count() == 35


async def test_an_insert_of_unknown_outcome_is_tried_again(
    kafka_bootstrap: str, clickhouse_url: str
) -> None:
    own = await rig(kafka_bootstrap, clickhouse_url)
    turn = event(1, type="turn.completed", data=b'{"turn_id":"turn_1","status":"completed"}')
    await own.publish([turn, *events(2, 20)])
    real = ClickHouseWriter(own.url, timeout=10)
    tried: list[bytes] = []

    class Unsure:
        """The first insert lands, but its answer is lost."""

        def insert(self, body: bytes) -> None:
            tried.append(body)
            real.insert(body)
            if len(tried) == 1:
                raise Away("the connection was cut")

    async with own.recording(Unsure()):
        await until(own.committed, lambda offset: offset == 20)
    assert tried[0] == tried[1]
    assert await own.count() == 20, "the view shows no repeat"
    assert await own.query("SELECT count() FROM turn_facts") == [(1,)]


async def test_two_recorders_share_the_partitions_and_lose_nothing(
    kafka_bootstrap: str, clickhouse_url: str
) -> None:
    own = await rig(kafka_bootstrap, clickhouse_url, partitions=6)

    async def publish(first: int) -> None:
        for number in range(first, first + 12):
            session = f"ses_{number}"
            await own.publish(events(1, 20, session), key=session.encode())

    async with own.recording():
        await publish(0)
        async with own.recording():
            await publish(12)
            await until(own.count, lambda count: count == 24 * 20)
        await publish(24)
        await until(own.count, lambda count: count == 36 * 20)
    await until(own.committed, lambda offset: offset == 36 * 20)
