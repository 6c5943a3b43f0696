"""While ClickHouse is away the log is the buffer: the recorder holds two batches, whatever comes meanwhile."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import pytest

from services.recorder.kafka import GROUP
from shared.bus.topics import EVENTS
from tests.bench.process import MIB, resident
from tests.clickhouse_server import start_clickhouse, stop_clickhouse
from tests.e2e.world import Tell
from tests.integration.recorder_rig import Rig, event, rig, until
from tests.integration.test_recorder_bad_days import _process

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]
# Events of two kilobytes that do not compress: 40 MB at a time, which is more than a batch.
AT_ONCE, TIMES = 20_000, 5
MAY_GROW = 24 * MIB


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Tell:
    def say(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}", flush=True)

    return say


async def test_memory_is_flat_while_clickhouse_is_away_and_nothing_is_lost(
    kafka_bootstrap: str, tmp_path: Path, tell: Tell
) -> None:
    server = await asyncio.to_thread(start_clickhouse, tmp_path)
    try:
        own = await rig(kafka_bootstrap, server.url)
        own = replace(own, topic=EVENTS.name, group=GROUP)
        async with _process(own) as (process, health):
            await until(lambda: _serves(health), bool)
            await asyncio.to_thread(stop_clickhouse, server)
            sizes = []
            for number in range(TIMES):
                await _publish(own, number * AT_ONCE + 1)
                await until(lambda: _value(health, "turnstile_recorder_paused"), lambda v: v == 1)
                sizes.append(await _settled(process.pid))
            server = await asyncio.to_thread(start_clickhouse, tmp_path, port=server.port)
            count = "SELECT uniqExact(seq) FROM events WHERE session_id = 'ses_memory'"

            async def there() -> int:
                return int((await own.query(count))[0][0])

            await until(there, lambda found: found == AT_ONCE * TIMES, 240)
        told = ", ".join(str(size // MIB) for size in sizes)
        tell(f"recorder without ClickHouse, 40 MB published before each: {told} MiB")
        assert max(sizes[2:]) - sizes[1] < MAY_GROW
    finally:
        await asyncio.to_thread(stop_clickhouse, server)


async def _publish(own: Rig, first: int) -> None:
    for start in range(first, first + AT_ONCE, 2_000):
        values = [
            event(seq, "ses_memory", data=b'{"x":"%b"}' % os.urandom(1_000).hex().encode())
            for seq in range(start, start + 2_000)
        ]
        await own.publish(list(values), key=b"ses_memory")


async def _settled(pid: int) -> int:
    """Resident bytes once they have been the same, more or less, for three seconds."""
    last, same = resident(pid), 0
    while same < 3:
        await asyncio.sleep(1)
        now = resident(pid)
        same = same + 1 if abs(now - last) < MIB else 0
        last = now
    return last


async def _serves(health: str) -> bool:
    try:
        return "turnstile" in await asyncio.to_thread(_get, f"{health}/metrics")
    except OSError:
        return False


async def _value(health: str, name: str) -> float:
    text = await asyncio.to_thread(_get, f"{health}/metrics")
    found = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(found[0].split()[1]) if found else 0.0


def _get(url: str) -> str:
    with urlopen(url, timeout=10) as answer:
        text: bytes = answer.read()
    return text.decode()
