"""A real browser (Debian's chromium, headless) that loads a page, and the page's server, which hears its result."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, Queue
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-extensions", "--remote-debugging-port=0"),
)
PATIENCE_S = 60.0


class Page:
    """A page at an origin of its own: `script` runs in it as the body of an async function, whose result, or what
    it raised, is the page's."""

    def __init__(self, server: ThreadingHTTPServer, told: Queue[Any]) -> None:
        self.origin = f"http://127.0.0.1:{server.server_address[1]}"
        self._server = server
        self._told = told

    async def run(self, script: str, **given: Any) -> Any:
        """What `script` comes to in the browser; `given` are its constants."""
        constants = "".join(
            f"const {name} = {json.dumps(value)};\n" for name, value in given.items()
        )
        self._server.html = HTML % (constants + script)  # type: ignore[attr-defined]
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            process = await asyncio.create_subprocess_exec(
                *(CHROMIUM, *FLAGS, f"--user-data-dir={profile}", self.origin),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env={**os.environ, "HOME": profile},
                start_new_session=True,
            )
            try:
                return await asyncio.to_thread(self._heard)
            finally:
                os.killpg(process.pid, signal.SIGKILL)  # its own session: the browser's helpers too
                await process.wait()

    def _heard(self) -> Any:
        try:
            return self._told.get(timeout=PATIENCE_S)
        except Empty:
            raise AssertionError(f"the page said nothing for {PATIENCE_S:.0f} s") from None


HTML = """<!doctype html><meta charset="utf-8"><script type="module">
const work = async () => {
%s
};
const result = await work().catch(error => ({raised: `${error.name}: ${error.message}`}));
await fetch("/result", {method: "POST", body: JSON.stringify(result)});
</script>"""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(self.server.html.encode(), "text/html")  # type: ignore[attr-defined]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.told.put(json.loads(body))  # type: ignore[attr-defined]
        self._answer(b"", "text/plain")

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Tests print what matters."""


@contextmanager
def page() -> Iterator[Page]:
    """A page's server on a free port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    told: Queue[Any] = Queue()
    server.html, server.told = "", told  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Page(server, told)
    finally:
        server.shutdown()
        server.server_close()
