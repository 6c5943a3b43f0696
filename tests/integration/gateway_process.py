"""A gateway as a process of its own on real parts, and a client that reads its streams."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from infra.clickhouse.migrate import migrate as migrate_archive
from infra.local.ports import free_ports
from infra.postgres.migrate import migrate_async
from tests.stack import PROJECT

READY_SECONDS = 60.0


@dataclass
class GatewayProcess:
    """A running gateway; `process` is its own, not a wrapper's."""

    url: str
    process: asyncio.subprocess.Process

    @asynccontextmanager
    async def client(self, key: str = "key-a") -> AsyncIterator[httpx2.AsyncClient]:
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=20) as client:
            yield client

    async def seqs(
        self, path: str, count: int, headers: Mapping[str, str] | None = None
    ) -> list[int]:
        """The ids of the first `count` events of a stream."""
        async with self.events(path, headers) as events:
            return [int((await anext(events))["id"]) for _ in range(count)]

    @asynccontextmanager
    async def events(
        self, path: str, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[AsyncIterator[dict[str, str]]]:
        """The records of a stream, comments left out."""
        async with self.client() as client, client.stream("GET", path, headers=headers) as answer:
            assert answer.status_code == 200, await answer.aread()
            yield _records(answer.aiter_lines())

    async def stop(self, timeout: float = 10.0) -> float:
        """SIGTERM; how many seconds it took to end with exit code 0."""
        began = time.monotonic()
        self.process.terminate()
        code = await asyncio.wait_for(self.process.wait(), timeout)
        assert code == 0
        return time.monotonic() - began


async def _records(lines: AsyncIterator[str]) -> AsyncIterator[dict[str, str]]:
    found: dict[str, str] = {}
    async for line in lines:
        if not line:
            if "data" in found:
                yield found
            found = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            found[name] = value


@asynccontextmanager
async def gateway_process(
    kafka: str, database_url: str, clickhouse_url: str, **environment: str
) -> AsyncIterator[GatewayProcess]:
    """A gateway on these parts, migrated and ready; it is ended with the block."""
    await migrate_async(database_url)
    await asyncio.to_thread(migrate_archive, clickhouse_url, say=lambda _: None)
    port = free_ports(1)[0]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.gateway.main"),
        cwd=PROJECT,
        env={
            **os.environ,
            "TURNSTILE_KAFKA_BOOTSTRAP": kafka,
            "TURNSTILE_DATABASE_URL": database_url,
            "TURNSTILE_CLICKHOUSE_URL": clickhouse_url,
            "TURNSTILE_GATEWAY_PORT": str(port),
            "TURNSTILE_API_KEYS": "key-a:acme,key-b:other",
            "TURNSTILE_LOG_LEVEL": "WARNING",
            **environment,
        },
    )
    gateway = GatewayProcess(f"http://127.0.0.1:{port}", process)
    try:
        await _until_ready(gateway)
        yield gateway
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _until_ready(gateway: GatewayProcess) -> None:
    said: Any = "nothing"
    deadline = time.monotonic() + READY_SECONDS
    async with gateway.client() as client:
        while time.monotonic() < deadline and gateway.process.returncode is None:
            try:
                answer = await client.get("/readyz")
            except httpx2.HTTPError as error:
                said = repr(error)
            else:
                if answer.status_code == 200:
                    return
                said = answer.text
            await asyncio.sleep(0.05)
    raise AssertionError(f"the gateway is not ready: {said}")
