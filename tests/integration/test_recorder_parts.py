"""An event in parts is one row, byte for byte, whatever ends between two of them."""

from __future__ import annotations

import pytest

from shared.bus.envelope import Headers
from shared.bus.parts import split
from tests.clickhouse_server import clickhouse_url
from tests.integration.recorder_rig import event, rig, until

__all__ = ["clickhouse_url"]
pytestmark = pytest.mark.integration
HEADERS: Headers = [("ce_source", b"/worker/acme"), ("content-type", b"application/json")]
DATA = b'{"id": "sevt_2",  "text":"' + b"caf\\u00e9 \\/ " * 1_600_000 + b'"}'
BIG = event(2, data=DATA)


async def test_a_recorder_that_ends_between_two_parts_does_not_pass_the_first(
    kafka_bootstrap: str, clickhouse_url: str
) -> None:
    own = await rig(kafka_bootstrap, clickhouse_url, partitions=1)
    parts = list(split(BIG, HEADERS, seq=2))
    assert len(parts) == 3
    async with own.recording():
        await own.publish([event(1)], HEADERS)
        for value, marks in parts[:2]:
            await own.publish([value], marks)
        await own.publish([event(1, session="ses_2")], HEADERS, key=b"ses_2")
        await until(own.count, lambda count: count == 2)
        await until(own.committed, lambda offset: offset == 1)
    async with own.recording():
        await own.publish([parts[2][0]], parts[2][1])
        await own.publish([event(3)], HEADERS)
        await until(own.committed, lambda offset: offset == 6)
    found = await own.query("SELECT seq, data FROM events WHERE session_id = 'ses_1' ORDER BY seq")
    assert [row[0] for row in found] == [1, 2, 3]
    assert found[1][1].encode() == DATA


async def test_an_event_said_again_from_its_first_part_is_one_row(
    kafka_bootstrap: str, clickhouse_url: str
) -> None:
    own = await rig(kafka_bootstrap, clickhouse_url, partitions=1)
    parts = list(split(BIG, HEADERS, seq=2))
    async with own.recording():
        await own.publish([event(1)], HEADERS)
        for value, marks in [
            *parts[:2],
            *parts,
            parts[0],
        ]:  # a driver died, another did not, a third repeats
            await own.publish([value], marks)
        await until(own.count, lambda count: count == 2)
        await until(own.committed, lambda offset: offset == 6)
        await own.publish([event(3)], HEADERS)
        await until(own.committed, lambda offset: offset == 8)
    found = await own.query("SELECT seq, data FROM events ORDER BY seq")
    assert [row[0] for row in found] == [1, 2, 3]
    assert found[1][1].encode() == DATA
    assert await own.count("session_events") == 3
