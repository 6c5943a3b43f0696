"""A bound in time that many share."""

from __future__ import annotations

import asyncio

import pytest

from shared.patience import Patience

pytestmark = pytest.mark.unit


async def test_what_takes_too_long_is_given_up_and_what_is_done_is_not() -> None:
    patience, ended = Patience(0.02), list[str]()

    async def waits(name: str, event: asyncio.Event) -> None:
        try:
            with patience():
                await event.wait()
            ended.append(f"{name} done")
        except TimeoutError:
            ended.append(f"{name} late")

    never, soon = asyncio.Event(), asyncio.Event()
    tasks = [asyncio.create_task(waits(name, never)) for name in ("a", "b")]
    tasks.append(asyncio.create_task(waits("c", soon)))
    await asyncio.sleep(0)
    soon.set()
    await asyncio.wait_for(asyncio.gather(*tasks), 5)
    assert ended == ["c done", "a late", "b late"]
    assert not any(task.cancelling() for task in tasks)
    again = asyncio.create_task(waits("d", never))  # the timer is set anew
    await asyncio.wait_for(again, 5)
    assert ended[-1] == "d late"


async def test_who_is_cancelled_by_others_is_cancelled() -> None:
    patience = Patience(60)
    inside = asyncio.Event()

    async def waits() -> None:
        with patience():
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(waits())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_inside_passes() -> None:
    with pytest.raises(ValueError, match="x"), Patience(60)():
        raise ValueError("x")
