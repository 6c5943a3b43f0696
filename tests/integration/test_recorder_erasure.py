"""An erased session leaves ClickHouse, all of it, and nothing brings it back. Real Kafka, real engine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from infra.kafka.topics import create_topics
from services.operator.dead.letters import newest
from services.recorder.eraser import Eraser
from services.recorder.tombstones import Tombstone, Tombstones
from shared.bus.topics import DEAD
from shared.clock import utcnow
from tests.clickhouse_server import clickhouse_url
from tests.integration.recorder_rig import Rig, event, events, rig, until

__all__ = ["clickhouse_url"]
pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
ERASED_AT = "2026-11-21T10:05:00.000000Z"
KEPT, GONE = "ses_1", "it's a \\ session"


def erased(seq: int, session: str) -> bytes:
    return event(seq, session, type="session.erased", at=ERASED_AT, data=b'{"reason":"requested"}')


def conversation(session: str, **fields: Any) -> list[bytes]:
    """Ten events of a turn that ended."""
    data = b'{"turn_id":"turn_1","status":"completed"}'
    done = event(10, session, type="turn.completed", data=data, **fields)
    return [*(event(seq, session, **fields) for seq in range(1, 10)), done]


async def a_rig(kafka_bootstrap: str, clickhouse_url: str) -> Rig:
    await create_topics(kafka_bootstrap, [DEAD])
    own = await rig(kafka_bootstrap, clickhouse_url, partitions=1)
    there = "database = currentDatabase() AND engine LIKE '%MergeTree'"
    for (table,) in await own.query(f"SELECT name FROM system.tables WHERE {there}"):
        # Else replaced parts stay for a minute.
        await own.query(f"ALTER TABLE `{table}` MODIFY SETTING old_parts_lifetime = 1")
    return own


async def tables(own: Rig) -> list[str]:
    noted = Tombstones(own.url, timeout=10)
    found = await asyncio.to_thread(noted.tables)
    noted.close()
    return found


async def rows_of(own: Rig, session: str, tenant: str = "acme") -> dict[str, int]:
    """Raw rows of a session by table, those without any left out."""
    noted = Tombstones(own.url, timeout=10)
    found = await asyncio.to_thread(noted.count, await tables(own), [(tenant, session)])
    noted.close()
    return found.get((tenant, session), {})


async def tombstones(own: Rig) -> list[Sequence[Any]]:
    columns = "tenant_id, session_id, asked_at, deleted_at, gone_at, rows"
    return await own.query(f"SELECT {columns} FROM erasures FINAL ORDER BY tenant_id, session_id")


async def test_an_erased_session_leaves_every_table_and_the_disk(
    kafka_bootstrap: str, clickhouse_url: str
) -> None:
    own = await a_rig(kafka_bootstrap, clickhouse_url)
    assert {"session_events", "turns"} <= set(await tables(own))
    async with own.recording():
        await own.publish(conversation(KEPT))
        await own.publish(conversation(GONE, tenant_id="other"), key=GONE.encode())
        await own.publish(conversation(GONE), key=GONE.encode())
        # Once they are committed, what is derived from them is there too.
        await until(own.committed, lambda offset: offset == 30)
        before, other = await rows_of(own, GONE), await rows_of(own, GONE, "other")
        await own.publish([erased(11, GONE)], key=GONE.encode())
        await until(lambda: tombstones(own), lambda found: bool(found and found[0][3]))
        assert await rows_of(own, GONE) == {}
        ((tenant, session, asked, deleted, _, rows),) = await tombstones(own)
        assert (tenant, session) == ("acme", GONE)
        assert asked.isoformat().startswith("2026-11-21T10:05:00")
        assert deleted is not None
        assert rows == before
        assert await rows_of(own, GONE, "other") == other
        assert (await rows_of(own, KEPT))["session_events"] == 10
        await until(lambda: tombstones(own), lambda found: found[0][4] is not None, 60)
    held = ", ".join(f"'{table}'" for table in await tables(own))
    old = f"NOT active AND rows > 0 AND database = currentDatabase() AND table IN ({held})"
    older = f"remove_time <= toDateTime('{deleted:%Y-%m-%d %H:%M:%S}', 'UTC')"
    assert await own.query(f"SELECT name FROM system.parts WHERE {old} AND {older}") == []


async def test_nothing_brings_an_erased_session_back(
    kafka_bootstrap: str, clickhouse_url: str
) -> None:
    own = await a_rig(kafka_bootstrap, clickhouse_url)
    async with own.recording():
        said = [*conversation(GONE), erased(11, GONE), *events(12, 20, GONE)]
        await own.publish(said, key=GONE.encode())
        await own.publish(conversation(KEPT))
        await until(own.committed, lambda offset: offset == 30)
        await until(lambda: tombstones(own), lambda found: bool(found and found[0][3]))
        assert await rows_of(own, GONE) == {}
    await own.rewind()
    async with own.recording():
        await own.publish(events(21, 25, GONE), key=GONE.encode())
        await until(own.committed, lambda offset: offset == 35)
    assert await rows_of(own, GONE) == {}
    assert await own.count() == 10
    assert len(await tombstones(own)) == 1


async def test_an_erasure_goes_on_after_a_crash(kafka_bootstrap: str, clickhouse_url: str) -> None:
    """The session was noted, and the process died before anything was deleted."""
    own = await a_rig(kafka_bootstrap, clickhouse_url)
    async with own.recording():
        await own.publish(conversation(GONE))
        await until(own.committed, lambda offset: offset == 10)
    noted = Tombstones(own.url, timeout=10)
    when = datetime(2026, 11, 21, 10, 5, tzinfo=UTC)
    await asyncio.to_thread(noted.put, [Tombstone(("acme", GONE), when, utcnow())])
    async with own.recording():
        await until(lambda: tombstones(own), lambda found: found[0][3] is not None)
    assert await rows_of(own, GONE) == {}
    assert (await tombstones(own))[0][5]["session_events"] == 10


async def test_what_came_in_behind_the_tombstone_is_found(
    kafka_bootstrap: str, clickhouse_url: str
) -> None:
    """A recorder that stood still with a batch in its hands brings in rows of a session that is gone."""
    own = await a_rig(kafka_bootstrap, clickhouse_url)
    async with own.recording():
        await own.publish(conversation(GONE))
        await until(own.committed, lambda offset: offset == 10)
    noted = Tombstones(own.url, timeout=10)
    when = datetime(2026, 11, 21, 10, 5, tzinfo=UTC)
    gone = Tombstone(("acme", GONE), when, when, when, when, {"session_events": 7})
    await asyncio.to_thread(noted.put, [gone])
    eraser = Eraser(noted, utcnow)
    await eraser.step()
    assert await rows_of(own, GONE) == {}
    assert (await tombstones(own))[0][5]["session_events"] == 17
    await until(eraser.step, lambda left: left == 0, 120)
    assert (await tombstones(own))[0][4] is not None


async def test_the_dead_letters_of_an_erased_session_are_marked(
    kafka_bootstrap: str, clickhouse_url: str
) -> None:
    own = await a_rig(kafka_bootstrap, clickhouse_url)
    bad = b'{"tenant_id":"acme","session_id":"gone_1","seq":"no number"}'
    foreign = bad.replace(b"acme", b"other")
    key = own.topic.encode()  # the topic of dead letters is shared with other tests
    async with own.recording():
        await own.publish([bad, foreign, *events(1, 30, own.topic)], key=key)
        await own.publish([erased(31, own.topic)], key=key)
        await until(lambda: tombstones(own), lambda found: len(found) == 1)
        letters = await newest(
            kafka_bootstrap,
            {},
            limit=10,
            scan=10_000,
            wanted=lambda letter: letter.key == own.topic,
        )
    assert [letter.header("dead_source").split("/")[2] for letter in letters] == ["1"]
