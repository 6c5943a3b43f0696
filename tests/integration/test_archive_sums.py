"""Whatever comes again, every view adds up to the distinct events. Real engine, real Kafka, real kills."""

from __future__ import annotations

import asyncio
import random
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client

from infra.clickhouse.migrate import migrate
from services.recorder.archive import Away, ClickHouseWriter
from tests.chaos.archive import Archive
from tests.chaos.sums import wrong_sums
from tests.clickhouse_archive import emptied_archive
from tests.clickhouse_server import (
    clickhouse_url,
    start_clickhouse,
    stop_clickhouse,
)
from tests.integration.recorder_rig import Rig, rig, until
from tests.synthetic.copies import Plan, sessions
from tests.unit.gateway.desk import an_event

__all__ = ["clickhouse_url"]
pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
ROWS = 1_500


def rows(count: int, seed: int = 1) -> list[bytes]:
    """Events of several sessions of one tenant: turns, tools, approvals, child threads, retries, rotations."""
    plan = Plan(count, seed=seed, tenants=1, users=5, days=3, patterns=40)
    return [line for text, _ in sessions(plan) for line in text.splitlines()]


def wrong(url: str) -> list[str]:
    """What does not add up, for the tenant of `rows`."""
    client = clickhouse_connect.get_client(dsn=url, autogenerate_session_id=False)
    try:
        return wrong_sums(
            lambda sql: list(client.query(sql, parameters={"tenant": "acme"}).named_results())
        )
    finally:
        client.close()


@pytest.fixture
def url() -> str:
    """A migrated database without rows."""
    return emptied_archive()


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    client = clickhouse_connect.get_client(dsn=url, autogenerate_session_id=False)
    yield client
    client.close()


@pytest.fixture
def writer(url: str) -> Iterator[ClickHouseWriter]:
    writer = ClickHouseWriter(url, timeout=60)
    yield writer
    writer.close()


def totals(client: Client) -> tuple[int, ...]:
    sql = "SELECT sum(events), sum(turns), sum(tool_calls), sum(input_tokens) FROM session_facts"
    return tuple(client.query(sql).result_rows[0])


def test_the_check_notices_wrong_sums(writer: ClickHouseWriter, client: Client, url: str) -> None:
    writer.insert(b"\n".join(rows(ROWS)))
    assert wrong(url) == asyncio.run(Archive(url, "acme").wrong_sums()) == []
    assert min(totals(client)) > 0
    client.command("TRUNCATE TABLE session_usage")
    client.command(
        "DELETE FROM tool_calls WHERE tool_use_id = (SELECT min(tool_use_id) FROM tool_calls)"
    )
    client.command(
        "INSERT INTO turns (tenant_id, session_id, turn_id, status, cost_usd)"
        " VALUES ('acme', 's', 't', 'completed', 1)"
    )
    found = {line.split(" is ")[0] for line in wrong(url)}
    assert {"tool_call_facts: tool_calls", "session_facts: active_seconds"} <= found
    assert {"turn_facts: cost_of_turns", "tenant_days: completed"} <= found
    assert {
        line.split(" is ")[0] for line in asyncio.run(Archive(url, "acme").wrong_sums())
    } == found
    assert asyncio.run(Archive("http://127.0.0.1:1/none", "acme").wrong_sums()) != []


def test_what_came_between_turns_is_in_the_sessions_cost_and_in_no_turns(
    writer: ClickHouseWriter, client: Client, url: str
) -> None:
    line = {"kind": "running", "source": "sevt_1", "active_ms": 45, "micro_usd": 1}
    about = {"provider_session_id": "sesn_1", "agent": "agent_1", "lines": [line]}
    own = an_event(1, "session.charged", about, key=("acme", "ses_own"), turn_id=None)
    writer.insert(b"\n".join([*rows(ROWS), own]))
    assert wrong(url) == []
    sql = "SELECT sum({0}) FROM {1} WHERE tenant_id = 'acme' {2}"
    ended = "AND status IN ('completed', 'interrupted', 'refused', 'failed')"
    [(turns,)] = client.query(sql.format("cost_usd", "turn_facts", ended)).result_rows
    [(whole,)] = client.query(sql.format("cost_usd", "session_facts", "")).result_rows
    assert (whole - turns) * 1_000_000 == 1


def test_sums_hold_when_a_batch_comes_again(
    writer: ClickHouseWriter, client: Client, url: str
) -> None:
    body = b"\n".join(rows(ROWS))
    writer.insert(body)
    before = totals(client)
    for _ in range(2):
        writer.insert(body)
    assert client.query("SELECT count() FROM session_events").result_rows[0][0] > ROWS
    assert totals(client) == before
    assert wrong(url) == []


@pytest.mark.parametrize("seed", range(3))
def test_sums_hold_when_rows_come_again_in_other_batches_and_order(
    writer: ClickHouseWriter, client: Client, url: str, seed: int
) -> None:
    chance, all_rows = random.Random(seed), rows(ROWS, seed)
    repeated = [*all_rows, *chance.sample(all_rows, ROWS // 2)]
    chance.shuffle(repeated)
    cuts = sorted(chance.sample(range(1, len(repeated)), 9))
    for first, last in zip([0, *cuts], [*cuts, len(repeated)], strict=True):
        writer.insert(b"\n".join(repeated[first:last]))
    assert wrong(url) == []
    tables = "tool_calls model_requests agent_outputs ledger session_days session_usage turns session_events"
    for table in tables.split():
        client.command(f"OPTIMIZE TABLE {table} FINAL")
    assert wrong(url) == [], "and after the merge"
    assert totals(client)[0] == ROWS


def test_sums_hold_when_the_server_is_killed_in_mid_insert(tmp_path: Path) -> None:
    """What got in before the kill must not keep the rest out."""
    chance, all_rows, running = random.Random(7), rows(12_000), start_clickhouse(tmp_path)
    url = running.url
    migrate(url, say=lambda step: None)
    cut_off = 0
    for number in range(4):
        body = b"\n".join(all_rows[number * 3_000 :][:3_000])
        writer = ClickHouseWriter(url, timeout=60)
        kill = threading.Timer(chance.uniform(0.02, 0.4), running.process.kill)
        kill.start()
        try:
            writer.insert(body)
        except Away:
            cut_off += 1
        kill.join()
        running.process.wait(30)
        writer.close()
        running = start_clickhouse(tmp_path, port=running.port)
        writer = ClickHouseWriter(url, timeout=60)
        writer.insert(body)
        writer.close()
    found = wrong(url)
    stop_clickhouse(running)
    assert found == []
    assert cut_off, "no insert was under way when the server was killed"


def test_sums_hold_when_the_server_is_killed_before_a_part_is_committed(tmp_path: Path) -> None:
    """MergeTree notes a block as inserted before its part is in place: killed in between, it has the note only. A
    part that is taken away leaves the same behind."""
    body, running = b"\n".join(rows(ROWS)), start_clickhouse(tmp_path)
    migrate(running.url, say=lambda step: None)
    writer = ClickHouseWriter(running.url, timeout=60)
    writer.insert(body)
    found = clickhouse_connect.get_client(dsn=running.url).query(
        "SELECT path FROM system.parts WHERE active AND database = currentDatabase() AND rows > 0"
        " AND table IN ('session_days', 'turns', 'tool_calls', 'model_requests')"
    )
    running.process.kill()
    running.process.wait(30)
    for (path,) in found.result_rows:
        shutil.rmtree(path)
    assert len(found.result_rows) >= 4
    running = start_clickhouse(tmp_path, port=running.port)
    assert wrong(running.url) != []
    writer.insert(body)
    still = wrong(running.url)
    stop_clickhouse(running)
    assert still == []


async def a_rig(bootstrap: str, url: str, count: int, partitions: int = 1) -> Rig:
    own = await rig(bootstrap, url, partitions)
    await own.publish(rows(count))
    return own


async def add_up(own: Rig) -> None:
    assert await asyncio.to_thread(wrong, own.url) == []
    assert min((await own.query("SELECT sum(turns), sum(tool_calls) FROM session_facts"))[0]) > 0


async def test_sums_hold_when_the_recorder_dies_between_insert_and_commit(
    kafka_bootstrap: str, clickhouse_url: str
) -> None:
    own = await a_rig(kafka_bootstrap, clickhouse_url, ROWS)
    real = ClickHouseWriter(own.url, timeout=30)

    class Dies:
        """Inserts, and the process is gone before it hears so."""

        def insert(self, body: bytes) -> None:
            real.insert(body)
            raise RuntimeError("gone")

    async with own.recording(Dies()) as running:
        with pytest.raises(RuntimeError, match="gone"):
            await running
    assert await own.committed() == 0
    own = replace(own, settings=own.settings.model_copy(update={"recorder_batch_rows": 401}))
    async with own.recording():
        await until(own.committed, lambda offset: offset == ROWS)
    assert await own.count("session_events") > ROWS, "nothing came twice"
    await add_up(own)


async def test_sums_hold_when_offsets_are_rewound(
    kafka_bootstrap: str, clickhouse_url: str
) -> None:
    own = await a_rig(kafka_bootstrap, clickhouse_url, ROWS)
    for size in (1_000, 300):
        own = replace(own, settings=own.settings.model_copy(update={"recorder_batch_rows": size}))
        await own.rewind()
        async with own.recording():
            await until(own.committed, lambda offset: offset == ROWS)
    await add_up(own)


async def test_sums_hold_when_two_recorders_read_one_partition(
    kafka_bootstrap: str, clickhouse_url: str
) -> None:
    """One that was thought dead goes on: for Kafka it is another group, so that nothing holds it back."""
    own = await a_rig(kafka_bootstrap, clickhouse_url, ROWS)
    settings = own.settings.model_copy(update={"recorder_batch_rows": 170})
    other = replace(own, group=f"{own.group}-zombie", settings=settings)
    async with own.recording(), other.recording():
        await until(own.committed, lambda offset: offset == ROWS)
        await until(other.committed, lambda offset: offset == ROWS)
    await add_up(own)


def test_sums_hold_when_two_writers_insert_at_once(url: str) -> None:
    body = b"\n".join(rows(ROWS))

    def write(_: int) -> None:
        writer = ClickHouseWriter(url, timeout=60)
        writer.insert(body)
        writer.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(8)))
    assert wrong(url) == []
