"""Readiness probes, one a kind of part; each ends within a few seconds.

A probe returns when the part does its work (not merely listens) and raises NotReady or OSError
otherwise.
"""

import asyncio
import logging
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any

from infra.local.part import NotReady

_TIMEOUT_S = 3.0
# While a broker comes up aiokafka logs every refused connection as an error.
_QUIET = ("aiokafka", "aiokafka.conn", "aiokafka.client", "aiokafka.cluster")


async def kafka(bootstrap: str) -> None:
    """Return when the broker answers a metadata request and names itself. Raises NotReady or OSError."""
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    host, _, port = bootstrap.split(",")[0].rpartition(":")
    await _listens(host, int(port))
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    admin: Any = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=3000)
    try:
        await admin.start()
        found = await admin.describe_cluster()
    except KafkaError as error:
        raise NotReady(f"no metadata: {error!r}") from error
    finally:
        await admin.close()
        for name in _QUIET:
            logging.getLogger(name).setLevel(logging.NOTSET)
    if not found["brokers"]:
        raise NotReady("the controller knows no broker yet")


async def postgres(url: str) -> None:
    """Return when the server answers a query. Raises NotReady or OSError. `url` as in TURNSTILE_DATABASE_URL."""
    import asyncpg

    plain = url.replace("postgresql+asyncpg://", "postgresql://")
    try:
        connection = await asyncpg.connect(plain, timeout=_TIMEOUT_S)
        try:
            await connection.fetchval("SELECT 1", timeout=_TIMEOUT_S)
        finally:
            await connection.close(timeout=_TIMEOUT_S)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
        raise NotReady(f"no answer to a query: {error!r}") from error


async def clickhouse(base_url: str) -> None:
    """Return when the server answers /ping and computes SELECT 1. Raises NotReady or OSError."""
    await http(f"{base_url}/ping")
    answer = await http(f"{base_url}/?query=SELECT%201")
    if answer.strip() != b"1":
        raise NotReady(f"SELECT 1 answered {answer[:80]!r}")


async def ready(url: str) -> None:
    """Return when a service's /readyz answers 2xx. Raises NotReady or OSError."""
    await http(url)


async def http(url: str) -> bytes:
    """The body of a 2xx answer; NotReady with status and start of the body otherwise."""
    return await asyncio.to_thread(_get, url)


async def speaks_http(url: str) -> None:
    """Return when something answers HTTP there with a status below 500. Raises NotReady or OSError."""
    try:
        await http(url)
    except NotReady as error:
        if not isinstance(error.__cause__, urllib.error.HTTPError) or error.__cause__.code >= 500:
            raise


def _get(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        raise NotReady(f"{url} answered {error.code}: {error.read(300)!r}") from error
    except (OSError, HTTPException) as error:
        raise NotReady(f"{url}: {error}") from error


async def _listens(host: str, port: int) -> None:
    connecting = asyncio.open_connection(host, port)
    _, writer = await asyncio.wait_for(connecting, _TIMEOUT_S)
    writer.close()
