"""A tool result of 20 MB, which no record of the log holds: through the whole stack, byte for byte."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from tests.e2e.api import Api
from tests.e2e.recorded import assert_recorded
from tests.e2e.tenants import ACME
from tests.e2e.world import Tell, World

pytestmark = pytest.mark.e2e
SIZE = 20_000_000


class Fact(msgspec.Struct):
    """What is read of an event; `data` as it came."""

    seq: int
    type: str
    data: msgspec.Raw


async def streamed(api: Api, session: str, until: int) -> list[Fact]:
    """The facts of the session's stream up to and with seq `until`."""
    facts = list[Fact]()
    path = f"/v1/sessions/{session}/events"
    buffer = bytearray()
    async with asyncio.timeout(120), api.http.stream("GET", path) as answer:
        async for chunk in answer.aiter_bytes():
            start = max(0, len(buffer) - 1)
            buffer += chunk
            if buffer.find(b"\n\n", start) < 0:
                continue
            *records, rest = bytes(buffer).split(b"\n\n")
            buffer = bytearray(rest)
            for record in records:
                data = [line[6:] for line in record.split(b"\n") if line.startswith(b"data: ")]
                facts += [msgspec.json.decode(line, type=Fact) for line in data]
            if facts and facts[-1].seq >= until:
                break
    return facts


async def test_a_tool_result_of_twenty_megabytes_goes_all_the_way(
    world: World, session_id: str, tell: Tell
) -> None:
    api = world.api
    await api.open(session_id)
    listening = asyncio.create_task(streamed(api, session_id, until=8))
    prompt = f"look it up [[script: tools rounds=1 calls=1 bytes={SIZE}]]"
    await api.say(session_id, "t1", prompt)
    page = await api.ended(session_id, "t1", timeout=120)
    assert page["status"] == "completed"
    settled = await api.settled(session_id, timeout=120)

    rows = await world.archive.complete(ACME, session_id, settled["last_seq"])
    log = await world.provider.only(ACME, session_id)
    assert_recorded(rows, log)
    (result,) = (row for row in rows if row.type == "agent.tool_result")
    assert len(result.data) > SIZE

    await listening
    heard = {fact.seq: bytes(fact.data) for fact in await streamed(api, session_id, len(rows))}
    assert list(heard) == [row.seq for row in rows]
    assert heard[result.seq] == result.data.encode()
    pages = await api.raw_events(session_id)
    assert bytes(msgspec.json.decode(pages[result.seq - 1], type=Fact).data) == result.data.encode()

    await api.say(session_id, "t2", "and now a small one")
    assert (await api.ended(session_id, "t2"))["status"] == "completed"
    tell(f"an event of {len(result.data):,} bytes: seq {result.seq} of {len(rows)}")
