"""ClickHouse away, bad records in the log, a signal in the middle: nothing lost, the rest goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from infra.local.ports import free_ports
from services.recorder.kafka import GROUP
from services.recorder.settings import RecorderSettings
from shared import metrics
from shared.bus.brake import Braked
from shared.bus.topics import DEAD, EVENTS
from tests.clickhouse_server import clickhouse_url, start_clickhouse, stop_clickhouse
from tests.integration.recorder_rig import Rig, event, events, rig, until
from tests.unit.recorder.records import OURS

__all__ = ["clickhouse_url"]
pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "services.recorder.main"]
IN_HAND = "turnstile_recorder_in_hand"


async def test_clickhouse_stopped_and_started_loses_nothing(
    kafka_bootstrap: str, tmp_path: Path
) -> None:
    server = await asyncio.to_thread(start_clickhouse, tmp_path)
    try:
        own = await rig(kafka_bootstrap, server.url)
        own = replace(
            own,
            settings=RecorderSettings(recorder_batch_seconds=0.1, recorder_batch_rows=100),
        )
        async with own.recording() as running:
            await own.publish(events(1, 150))
            await until(own.count, lambda count: count == 150)
            await asyncio.to_thread(stop_clickhouse, server)
            # Many batches' worth: one is in flight, one in hand, the rest must stay in the log.
            await own.publish(events(151, 1000))
            await until(_paused, lambda paused: paused == 1)
            assert not running.done()
            server = await asyncio.to_thread(start_clickhouse, tmp_path, port=server.port)
            await until(own.count, lambda count: count == 1000)
            await until(own.committed, lambda offset: offset == 1000)
            await until(_paused, lambda paused: paused == 0)
        found = await own.query("SELECT min(seq), max(seq), uniqExact(seq) FROM events")
        assert tuple(found[0]) == (1, 1000, 1000)
    finally:
        await asyncio.to_thread(stop_clickhouse, server)


async def test_bad_records_between_good_ones_become_dead_letters(
    kafka_bootstrap: str, clickhouse_url: str
) -> None:
    own = await rig(kafka_bootstrap, clickhouse_url)
    reasons = {
        b"not json": "invalid_json",
        None: "empty_value",
        b'{"tenant_id":"acme"}': "invalid_event",
        event(3).replace(b'"seq": 3', b'"seq": "three"'): "invalid_event",
        event(4, data=b"[1]"): "invalid_event",
        # Only ClickHouse minds a field that is there twice.
        event(5).replace(b'"seq": 5', b'"seq": 5, "seq": 5'): "refused_by_clickhouse",
    }
    values: list[bytes | None] = []
    for number, bad in enumerate(reasons):
        values += [*events(number * 20 + 101, number * 20 + 120), bad]
    headers = [
        ("ce_id", b"some id"),
        ("traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"),
    ]
    await own.publish(values, headers)
    async with own.recording():
        await until(own.committed, lambda offset: offset == len(values))
    assert await own.count() == 20 * len(reasons)
    letters = await _letters(kafka_bootstrap, own.topic)
    assert {letter.value: _mark(letter, "dead_reason") for letter in letters} == reasons
    for letter in letters:
        assert letter.key == b"ses_1"
        assert set(headers) <= set(letter.headers)
        assert _mark(letter, "dead_attempts") == "1"
        assert _mark(letter, "dead_at").endswith("Z")
        assert _mark(letter, "dead_source").startswith(f"{own.topic}/")
    seq = next(item for item in letters if item.value and b"three" in item.value)
    assert "$.seq" in _mark(seq, "dead_detail")


async def test_ten_thousand_records_of_strangers_hold_up_no_event(
    kafka_bootstrap: str, clickhouse_url: str
) -> None:
    own = await rig(kafka_bootstrap, clickhouse_url, partitions=1)
    await own.publish([b"{}", b"no json"] * 5_000, [("ce_source", b"/a-stranger")])
    await own.publish(events(1, 1), OURS)
    async with own.recording():
        await until(own.count, lambda count: count == 1, deadline=10.0)
        await until(own.committed, lambda offset: offset == 10_001)
    assert len(await _letters(kafka_bootstrap, own.topic)) == 10_000


async def test_too_many_bad_records_of_our_own_stop_the_recorder(
    kafka_bootstrap: str, clickhouse_url: str
) -> None:
    own = await rig(kafka_bootstrap, clickhouse_url)
    own = replace(
        own,
        settings=RecorderSettings(recorder_batch_seconds=0.1, recorder_dead_consecutive=10),
    )
    await own.publish([*events(1, 5), *[b"{}"] * 30], OURS)
    async with own.recording() as running:
        with pytest.raises(Braked, match="bad deploy"):
            await asyncio.wait_for(running, 20)
    assert await own.committed() == 0
    assert await _letters(kafka_bootstrap, own.topic) == []


async def test_too_many_refused_rows_stop_the_recorder(
    kafka_bootstrap: str, clickhouse_url: str
) -> None:
    own = await rig(kafka_bootstrap, clickhouse_url)
    own = replace(
        own,
        settings=RecorderSettings(recorder_batch_seconds=0.1, recorder_dead_consecutive=5),
    )
    bad = [event(seq).replace(b'"seq"', b'"seq": 1, "seq"') for seq in range(1, 20)]
    await own.publish(bad, OURS)
    async with own.recording() as running:
        with pytest.raises(Braked, match="5 records in a row"):
            await asyncio.wait_for(running, 20)
    assert await own.committed() == 0


async def test_sigterm_finishes_the_batch_in_hand(
    kafka_bootstrap: str, clickhouse_url: str
) -> None:
    """The process itself: a batch that would wait for a minute is in ClickHouse when it has stopped."""
    own = replace(await rig(kafka_bootstrap, clickhouse_url), topic=EVENTS.name, group=GROUP)
    await _pass_by_what_is_there(own)
    await own.publish(events(1, 1, "ses_term"), key=b"ses_term")
    async with _process(own, TURNSTILE_RECORDER_BATCH_SECONDS="60") as (process, health):
        await until(own.count, lambda count: count == 1)
        await own.publish(events(2, 30, "ses_term"), key=b"ses_term")
        await until(lambda: _in_hand(health), lambda records: records == 29)
        assert await own.count() == 1
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 15) == 0
    found = await own.query("SELECT count() FROM events WHERE session_id = 'ses_term'")
    assert found[0][0] == 30


async def test_a_wrong_setting_is_named() -> None:
    environment = {**os.environ, "TURNSTILE_RECORDER_BATCH_ROWS": "none"}
    done = await asyncio.to_thread(_run_main, environment)
    assert done.returncode == 2
    assert b"TURNSTILE_RECORDER_BATCH_ROWS: " in done.stderr


def _run_main(environment: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        COMMAND, cwd=ROOT, env=environment, capture_output=True, timeout=60, check=False
    )


@asynccontextmanager
async def _process(own: Rig, **environment: str) -> AsyncIterator[tuple[Any, str]]:
    """The recorder as it is run, with its health address; killed if it is still there at the end."""
    port = free_ports(1)[0]
    known = {
        "TURNSTILE_KAFKA_BOOTSTRAP": own.bootstrap,
        "TURNSTILE_CLICKHOUSE_URL": own.url,
        "TURNSTILE_HEALTH_PORT": str(port),
    }
    process = await asyncio.create_subprocess_exec(
        *COMMAND, cwd=ROOT, env={**os.environ, **known, **environment}
    )
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _in_hand(health: str) -> float:
    """What the process says of itself; -1 while it does not answer."""
    try:
        answer = await asyncio.to_thread(urlopen, f"{health}/metrics", None, 5)
    except OSError:
        return -1
    lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(IN_HAND + " "))


async def _pass_by_what_is_there(own: Rig) -> None:
    """Commit the ends of the shared topic, while no recorder runs: what other tests left there is theirs."""
    make: Any = AIOKafkaConsumer
    consumer = make(
        bootstrap_servers=own.bootstrap,
        group_id=own.group,
        enable_auto_commit=False,
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(EVENTS.name, number) for number in range(EVENTS.partitions)]
        consumer.assign(partitions)
        await consumer.commit(await consumer.end_offsets(partitions))
    finally:
        await consumer.stop()


async def _paused() -> float:
    return metrics.read("turnstile_recorder_paused")


async def _letters(bootstrap: str, topic: str) -> list[Any]:
    """The dead letters that came from `topic`."""
    make: Any = AIOKafkaConsumer
    consumer = make(
        bootstrap_servers=bootstrap,
        group_id=None,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(DEAD.name, number) for number in range(DEAD.partitions)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        letters: list[Any] = []
        while any([await consumer.position(item) < ends[item] for item in partitions]):
            found = await consumer.getmany(timeout_ms=200)
            letters += [record for records in found.values() for record in records]
    finally:
        await consumer.stop()
    # Others have settled letters on the same topic: such a mark has no source.
    ours = f"{topic}/".encode()
    return [item for item in letters if dict(item.headers).get("dead_source", b"").startswith(ours)]


def _mark(letter: Any, name: str) -> str:
    return str(dict(letter.headers)[name].decode())
