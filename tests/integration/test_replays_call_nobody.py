"""Replays, states and diffs of what is recorded never reach the provider.

A server stands where the provider would be and notes every request. That it notes them is shown first.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from infra.clickhouse.migrate import migrate as migrate_archive
from services.operator.archive import ArchiveReader
from services.operator.audits.provider import connected
from services.operator.failures import Impossible
from services.operator.replays.only_archive import speaking_to_the_archive_only
from tests.clickhouse_server import fresh_database
from tests.e2e.waiting import eventually
from tests.integration.gateway_process import gateway_process
from tests.integration.test_gateway_streams import Bench
from tests.integration.test_operator_commands import archive_events
from tests.unit.operator.recordings import conversation

pytestmark = pytest.mark.integration


class Listener:
    """An HTTP server that answers nothing useful and keeps each request's first line."""

    def __init__(self) -> None:
        heard: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                heard.append(self.requestline)
                self.send_error(404)

            do_POST = do_GET

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.heard = heard
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """Where a process finds its provider, with a key that would open it."""
        return {"ANTHROPIC_BASE_URL": self.url, "ANTHROPIC_API_KEY": "sk-test"}


@pytest.fixture
def provider() -> Iterator[Listener]:
    with Listener() as listener:
        yield listener


async def test_a_call_would_be_noticed(provider: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in provider.environment.items():
        monkeypatch.setenv(name, value)
    async with connected() as client:
        assert (await client.log("sesn_1")).gone
    assert provider.heard


async def test_the_operators_commands_ask_the_archive_and_nobody_else(
    provider: Listener, clickhouse_url: str
) -> None:
    url = fresh_database(clickhouse_url)
    await asyncio.to_thread(migrate_archive, url, say=lambda _: None)
    for name, reply in (("ses_a", "well"), ("ses_b", "badly")):
        await asyncio.to_thread(archive_events, url, name, conversation(reply=reply))
    for arguments, code, says in [
        (("replay", "ses_a"), 0, "two files"),
        (("replay", "ses_a", "--json"), 0, '"seq": 26'),
        (("state", "ses_a", "--at-seq", "3"), 0, "running"),
        (("diff", "ses_a", "ses_b"), 1, "well → badly"),
    ]:
        program = Path(sys.executable).with_name("turnstile")
        process = await asyncio.create_subprocess_exec(
            str(program), *arguments, "--tenant", "acme",
            env={**os.environ, **provider.environment, "TURNSTILE_CLICKHOUSE_URL": url},
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        assert (process.returncode, says in output.decode()) == (code, True), output.decode()
    assert provider.heard == []


def test_inside_a_replay_every_other_connection_is_refused(
    provider: Listener, clickhouse_url: str
) -> None:
    port = int(provider.url.rpartition(":")[2])
    with speaking_to_the_archive_only(clickhouse_url):
        assert ArchiveReader(clickhouse_url.rpartition("/")[0] + "/default").query("SELECT 1") == [
            (1,)
        ]
        with pytest.raises(Impossible, match="archive only"):
            socket.create_connection(("127.0.0.1", port), timeout=5)
    socket.create_connection(("127.0.0.1", port), timeout=5).close()


@pytest.fixture
async def bench(
    provider: Listener, kafka_bootstrap: str, postgres_url: str, clickhouse_url: str
) -> AsyncIterator[Bench]:
    """A gateway that would know how to reach the provider, if it had anything to say to it."""
    url = fresh_database(clickhouse_url)
    async with gateway_process(
        kafka_bootstrap, postgres_url, url, **provider.environment
    ) as gateway:
        made = Bench(gateway, kafka_bootstrap, url)
        await made.producer.start()
        yield made
        await made.producer.stop()


async def test_the_gateway_replays_from_what_is_recorded(provider: Listener, bench: Bench) -> None:
    session = await bench.session()
    values = bench.events(session, 1, 40)
    await bench.archive(values)
    await bench.publish(session, values[-1:])
    path = f"/v1/sessions/{session}"
    async with bench.gateway.client() as client:

        async def known() -> bool:
            return bool((await client.get(path)).json()["last_seq"] == 40)

        await eventually(known, "the gateway knows of the last event")
        replay = await client.get(f"{path}/replay?speed=0")
        assert replay.text.endswith("event: end\ndata: {}\n\n")
        assert replay.text.count("\nid: ") + replay.text.startswith("id: ") == 40
        assert (await client.get(f"{path}?at_seq=7")).json()["last_seq"] == 7
    assert provider.heard == []
