"""Many readers of one session, each from another seq on, their streams held open together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from infra.clients.gateway import Received
from tests.e2e.api import Api
from tests.e2e.waiting import PATIENCE_S


async def from_each(
    api: Api,
    session_id: str,
    places: Iterable[int],
    until: str,
    then: Callable[[], Awaitable[object]] | None = None,
) -> dict[int, list[Received]]:
    """What streams with these `Last-Event-ID`s say up to an event of turn `until` that ends it.

    `then` is called once every one of them is open.
    """
    heard: dict[int, list[Received]] = {place: [] for place in places}
    all_open = asyncio.Barrier(len(heard) + 1)

    async def listen(place: int) -> None:
        path = f"/v1/sessions/{session_id}/events"
        async with api.stream(path, place) as events:
            await all_open.wait()
            async for event in events:
                heard[place].append(event)
                if event.type == "turn.completed" and event.body["turn_id"] == until:
                    return

    async def after_that() -> None:
        await all_open.wait()
        if then is not None:
            await then()

    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(after_that(), *(listen(place) for place in heard))
    return heard


def assert_no_seam(heard: dict[int, list[Received]], whole: Sequence[bytes]) -> None:
    """Each reader heard what follows its place and nothing else, byte for byte.

    `whole` is the session from seq 1 on, as the JSON pages have it.
    """
    for place, events in heard.items():
        assert [event.seq for event in events] == [place + n for n, _ in enumerate(events, 1)]
        assert [event.raw for event in events] == list(whole[place : place + len(events)])
