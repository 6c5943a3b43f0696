"""Waits for rest after the last fault: parts serve, sessions are closed, events are archived."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from aiokafka.errors import KafkaError

from infra.local.errors import StackError
from infra.local.folders import Folders
from infra.local.hold import wait_ready
from infra.local.status import read_status
from tests.chaos.archive import Archive
from tests.chaos.follower import Follower
from tests.chaos.gateway import Gateway
from tests.chaos.topic import published

_READY_S = 60.0
_CLOSED_S = 120.0
_ARCHIVED_S = 60.0
_POLL_S = 0.3


async def calm(
    folders: Folders, gateway: Gateway, archive: Archive, followers: Sequence[Follower], kafka: str
) -> str:
    """Close all sessions (with that, events that came late are fetched) and wait until nothing moves.

    Answers with what did not come to rest in time, empty when all did. Raises ChaosFailed.
    """
    for part in read_status(folders):
        try:
            await asyncio.to_thread(wait_ready, folders, part, _READY_S)
        except StackError as error:
            return str(error)
    for follower in followers:
        await gateway.post(f"/v1/sessions/{follower.session_id}/archive", {})

    async def closed() -> bool:
        return await archive.closed() >= len(followers)

    async def archived() -> bool:
        last = await archive.last_seqs()
        try:
            return last is not None and last == {
                session: one.last_seq for session, one in (await published(kafka)).items()
            }
        except KafkaError:
            return False

    if not await _eventually(closed, _CLOSED_S):
        return f"not every session was recorded as archived after {_CLOSED_S:.0f} s"
    if not await _eventually(archived, _ARCHIVED_S):
        return f"ClickHouse did not have all of the topic after {_ARCHIVED_S:.0f} s"
    if not all([await _heard_it_close(follower) for follower in followers]):
        return "not every client heard that its session was archived"
    return ""


async def _heard_it_close(follower: Follower) -> bool:
    return await follower.until(lambda: follower.closed, _READY_S)


async def _eventually(holds: Callable[[], Awaitable[bool]], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not await holds():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_POLL_S)
    return True
