"""A tab of a real browser (Debian's chromium, headless) that a test moves by hand: it goes to pages, reads them and
presses their buttons."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.browser import CHROMIUM, FLAGS, PATIENCE_S


class Tab:
    """A tab, by Chrome's DevTools protocol over `socket`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    async def goes_to(self, url: str) -> None:
        """Returns when the page is loaded."""
        await self._asked("Page.navigate", url=url)
        await self._loaded()

    async def presses(self, selector: str) -> None:
        """Click on an element; returns when the page that comes of it is loaded."""
        await self._evaluated(f"document.querySelector({selector!r}).click()")
        await self._loaded()

    async def text(self) -> str:
        """What the page shows."""
        return str(await self._evaluated("document.body.innerText"))

    async def address(self) -> str:
        """Where it is."""
        return str(await self._evaluated("location.href"))

    async def style(self, selector: str, name: str) -> str:
        """A computed style of an element."""
        script = f"getComputedStyle(document.querySelector({selector!r})).{name}"
        return str(await self._evaluated(script))

    async def _evaluated(self, script: str) -> Any:
        found = await self._asked("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def _asked(self, method: str, **params: Any) -> Any:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        return (await self._heard("id", number))["result"]

    async def _loaded(self) -> None:
        await self._heard("method", "Page.loadEventFired")

    async def _heard(self, name: str, value: object) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                said = await self._socket.receive_json()
                if said.get(name) == value:
                    return said


@asynccontextmanager
async def a_tab() -> AsyncIterator[Tab]:
    """A tab of a browser of its own, with nothing in it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            *(CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "HOME": profile},
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                port = await _port(process)
            async with aiohttp.ClientSession() as http, _socket(http, port) as socket:
                tab = Tab(socket)
                await tab._asked("Page.enable")
                yield tab
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # its own session: the browser's helpers too
            await process.wait()


async def _port(process: asyncio.subprocess.Process) -> int:
    """Where the browser says that it can be talked to."""
    assert process.stderr is not None
    async for line in process.stderr:
        found = re.search(rb"DevTools listening on ws://[^:]+:(\d+)/", line)
        if found:
            return int(found[1])
    raise AssertionError("the browser did not start")


@asynccontextmanager
async def _socket(
    http: aiohttp.ClientSession, port: int
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with http.get(f"http://127.0.0.1:{port}/json/list") as answer:
        pages = [one for one in await answer.json() if one["type"] == "page"]
    async with http.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
        yield socket
