"""Ten thousand sessions in one store."""

from __future__ import annotations

import asyncio

import pytest

from turnstile.stores import SessionStore

pytestmark = [pytest.mark.contract, pytest.mark.timeout(240)]
MANY, USERS, AT_ONCE, PAGE = 10_000, 10, 32, 500


async def test_ten_thousand_sessions_are_listed_in_pages_each_once(
    store: SessionStore, own: str
) -> None:
    names = [f"{own}-{n:05}" for n in range(MANY)]
    waiting = iter(enumerate(names))

    async def fill() -> None:
        for n, name in waiting:
            await store.append(name, [{"n": n}], expected_version=0, user=f"{own}.{n % USERS}")

    await asyncio.gather(*(fill() for _ in range(AT_ONCE)))
    assert await listed(store, own, None) == names
    assert await listed(store, own, f"{own}.3") == names[3::USERS]


async def listed(store: SessionStore, prefix: str, user: str | None) -> list[str]:
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await store.sessions(prefix=prefix, user=user, after=after, limit=PAGE)
        assert len(page.sessions) <= PAGE
        found += [one.session for one in page.sessions]
        after = page.next_after
    return found
