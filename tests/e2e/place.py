"""A stack with settings of its own for the tests of one file: who talks to it, and what the provider kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.e2e.api import Api
from tests.e2e.provider import Provider
from tests.e2e.waiting import eventually
from tests.stack import running_stack

TENANT = "local"


@dataclass(frozen=True)
class Place:
    api: Api
    provider: Provider


@asynccontextmanager
async def placed(**settings: str) -> AsyncIterator[Place]:
    """The stack, with these environment variables; stopped at the end."""
    async with running_stack(**settings) as stack:
        api = Api(stack.gateway, stack.key)
        yield Place(api, Provider(stack.simulator))
        await api.http.aclose()


async def said(api: Api, session: str, kind: str, times: int = 1) -> None:
    """Wait until the session has so many events of that kind."""

    async def look() -> bool:
        return [event["type"] for event in await api.events(session)].count(kind) >= times

    await eventually(look, f"{session}: {times} {kind}")


async def shown(api: Api, session: str, status: str) -> dict[str, object]:
    """The session's page once it shows that status."""

    async def look() -> dict[str, object] | None:
        page = await api.session(session)
        return page if page["status"] == status else None

    return await eventually(look, f"{session}: {status}")
