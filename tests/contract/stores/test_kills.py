"""Killed in mid-write: what was acknowledged is back, and an append is there whole or not at all."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE

import pytest

from tests.contract.stores.conftest import Place, opened
from tests.contract.stores.writer import EVENTS
from tests.store_servers import PROJECT

pytestmark = [pytest.mark.contract, pytest.mark.timeout(240)]
ACKNOWLEDGED = 60
KILLS = 2


async def test_what_was_acknowledged_outlives_kill_9_and_no_append_is_half_there(
    place: Place, own: str
) -> None:
    for n in range(KILLS):
        acknowledged = await written_until_killed(place, f"{own}-{n}")
        assert len(acknowledged) > 1
        async with opened(place.url) as store:
            for session, version in acknowledged.items():
                found = await store.load(session)
                assert found
                assert found.version in (version, version + EVENTS)
                assert found.state == {"n": found.version}
                seqs: list[int] = []
                after: int | None = 0
                while after is not None:
                    page = await store.history(session, after=after)
                    seqs += [event.event["n"] for event in page.events]
                    after = page.next_after
                assert seqs == list(range(1, found.version + 1))
                # And it goes on.
                await store.append(session, [{}], expected_version=found.version)


async def written_until_killed(place: Place, prefix: str) -> dict[str, int]:
    """The version that was acknowledged last of each session, when the server was killed while more were written;
    of a store in files, their writer."""
    module = "tests.contract.stores.writer"
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, place.url, prefix, stdout=PIPE, cwd=PROJECT
    )
    assert writer.stdout
    said: list[bytes] = []
    while len(said) < ACKNOWLEDGED:
        line = await writer.stdout.readline()
        assert line, "the writer ended by itself"
        said.append(line)
    if place.server:
        place.server.kill()
    else:
        writer.kill()
    said += (await writer.stdout.read()).splitlines()
    await writer.wait()
    if place.server:
        await asyncio.to_thread(place.server.start)
    words = (line.decode().split() for line in said if len(line.split()) == 2)
    return {session: int(version) for session, version in words}
