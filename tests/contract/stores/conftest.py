"""The stores that the suite runs on, each on its real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from uuid import uuid4

import pytest

from shared.errors import Transient
from tests.store_servers import Server, running
from turnstile.stores import SessionStore, open_store

PATIENCE_S = 60.0
STORES = ("files", "sqlite", "postgres")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store is kept. `server` is None for one that lives in files of this machine."""

    name: str
    url: str
    server: Server | None


@pytest.fixture(scope="session", params=STORES)
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    name = request.param
    if name == "files":
        yield Place(name, f"file://{tmp_path_factory.mktemp('files')}/store", None)
    elif name == "sqlite":
        yield Place(name, f"sqlite://{tmp_path_factory.mktemp('sqlite')}/new/store.db", None)
    else:
        with running(name) as server:
            yield Place(name, server.url, server)


@pytest.fixture
async def store(place: Place) -> AsyncIterator[SessionStore]:
    async with opened(place.url) as store:
        yield store


@pytest.fixture
def own() -> str:
    """A beginning of ids that no other test has."""
    return f"t{uuid4().hex[:12]}"


class opened:
    """A started store; a server that has just begun may say no for a while."""

    def __init__(self, url: str) -> None:
        self._store = open_store(url)

    async def __aenter__(self) -> SessionStore:
        await until_there(self._store.start)
        return self._store

    async def __aexit__(self, *_: object) -> None:
        await self._store.close()


async def until_there(ask: Callable[[], Awaitable[None]]) -> None:
    """Ask again until the server answers."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await ask()
            except Transient:
                await asyncio.sleep(0.05)
