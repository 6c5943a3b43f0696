"""Health pages: who is alive, who is missing, and that nothing hangs or leaks."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
from collections.abc import Awaitable, Callable
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from shared.health import readiness, serve_health

pytestmark = pytest.mark.unit


async def fine() -> None: ...


async def broken() -> None:
    raise ConnectionError("nobody there")


async def hangs() -> None:
    await asyncio.Event().wait()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def get(port: int, path: str) -> tuple[int, str]:
    def ask() -> tuple[int, str]:
        try:
            with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    return await asyncio.to_thread(ask)


async def test_every_dependency_is_named() -> None:
    ready, body = await readiness({"kafka": fine, "clickhouse": broken})
    assert not ready
    assert body == {
        "status": "unready",
        "dependencies": {
            "kafka": {"status": "ok"},
            "clickhouse": {"status": "error", "error": "ConnectionError: nobody there"},
        },
    }


async def test_an_optional_dependency_is_reported_and_forgiven() -> None:
    ready, body = await readiness({"kafka": fine, "clickhouse": broken}, optional=["clickhouse"])
    assert ready
    assert body["dependencies"]["clickhouse"]["status"] == "error"


async def test_a_check_that_hangs_is_bounded() -> None:
    ready, body = await readiness({"a": hangs, "b": hangs}, timeout=0.01)
    assert not ready
    assert body["dependencies"]["b"]["error"] == "no answer within 0.01 s"


@pytest.mark.parametrize(("check", "status"), [(fine, 200), (broken, 503)])
async def test_health_readiness_and_metrics_are_served(
    check: Callable[[], Awaitable[None]], status: int
) -> None:
    port = free_port()
    async with serve_health("127.0.0.1", port, {"kafka": check}):
        assert await get(port, "/healthz") == (200, '{"status":"ok"}')
        code, body = await get(port, "/readyz")
        assert code == status
        assert list(json.loads(body)["dependencies"]) == ["kafka"]
        code, text = await get(port, "/metrics")
        assert code == 200
        assert "process_resident_memory_bytes" in text
    with socket.socket() as one:
        assert one.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


async def test_port_0_serves_nothing() -> None:
    async with serve_health("127.0.0.1", 0, {}):
        pass


async def test_a_taken_port_names_the_setting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="TURNSTILE_HEALTH_PORT"):
            async with serve_health("127.0.0.1", port, {}):
                pass
