"""Runs a coroutine in a thread with an event loop of its own, so that it goes on while the process's loop is
busy.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

END_SECONDS = 5.0


@asynccontextmanager
async def in_own_thread(
    name: str, main: Callable[[], Awaitable[None]]
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Run `main` in a thread called `name`, cancelled at the end and waited for END_SECONDS at most.

    Yields a function that waits until `main` has ended and raises what it raised.
    """
    begun: concurrent.futures.Future[Callable[[], object]] = concurrent.futures.Future()
    done: concurrent.futures.Future[None] = concurrent.futures.Future()

    async def run() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        begun.set_result(lambda: loop.call_soon_threadsafe(task.cancel))
        with contextlib.suppress(asyncio.CancelledError):
            await main()

    def thread() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=thread, name=name, daemon=True).start()
    ended = asyncio.wrap_future(done)
    cancel = await asyncio.wrap_future(begun)

    async def until_ended() -> None:
        await asyncio.shield(ended)

    try:
        yield until_ended
    finally:
        if not done.done():
            cancel()
            await asyncio.wait({ended}, timeout=END_SECONDS)
