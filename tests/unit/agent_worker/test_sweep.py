"""Which orphans are archived, and which are left alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from services.agent_worker.ports import Bound, Marked, ProviderFailure
from services.agent_worker.provider.sweep import Sweeper
from shared.moment import rfc3339
from shared.session.key import SessionKey
from tests.unit.agent_worker.virtual_time import virtual

pytestmark = pytest.mark.unit
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEY: SessionKey = ("acme", "s1")
OLD = timedelta(hours=1)


class Account:
    """The provider's sessions, and what was archived of them."""

    def __init__(self, *sessions: Marked) -> None:
        self.sessions = list(sessions)
        self.archived: list[str] = []
        self.erased: list[str] = []
        self.asked: list[datetime] = []
        self.failing = 0
        self.refuses: set[str] = set()

    async def marked(self, since: datetime) -> AsyncIterator[list[Marked]]:
        self.asked.append(since)
        if self.failing:
            self.failing -= 1
            raise ProviderFailure("overloaded", "529")
        yield self.sessions[:1]
        yield self.sessions[1:]

    async def archive(self, provider_session_id: str, *, erase: bool) -> None:
        if provider_session_id in self.refuses:
            raise ProviderFailure("invalid_request_error", "400: it runs", final=True)
        (self.erased if erase else self.archived).append(provider_session_id)


class Rows:
    def __init__(self, rows: Mapping[SessionKey, Bound], *, mine: bool = True) -> None:
        self.rows = rows
        self.mine = mine

    async def of(self, keys: Collection[SessionKey]) -> Mapping[SessionKey, Bound]:
        return {key: bound for key, bound in self.rows.items() if key in keys}

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[bool]:
        yield self.mine


def made(name: str, age: timedelta = OLD, key: SessionKey = KEY) -> Marked:
    return Marked(name, key, rfc3339(NOW - age))


def sweeper(account: Account, rows: Rows, seconds: float = 600) -> Sweeper:
    return Sweeper(account, rows, seconds=seconds, age=1_800, clock=lambda: NOW, chance=lambda: 0.5)


async def test_what_nobody_is_bound_to_is_archived() -> None:
    account = Account(made("bound"), made("left"))
    assert await sweeper(account, Rows({KEY: Bound("bound", working=True)})).sweep() == 1
    assert account.archived == ["left"]


async def test_what_is_left_of_an_erased_session_is_deleted() -> None:
    account = Account(made("left"))
    rows = Rows({KEY: Bound("", working=False, erased=True)})
    assert await sweeper(account, rows).sweep() == 1
    assert (account.archived, account.erased) == ([], ["left"])


@pytest.mark.parametrize(
    ("session", "bound"),
    [
        (made("young", timedelta(minutes=29)), Bound("other", working=False)),
        (made("adoptable"), Bound("", working=True)),
        (made("foreign", key=("acme", "elsewhere")), Bound("", working=False)),
        (Marked("timeless", KEY, "soon"), Bound("", working=False)),
    ],
)
async def test_what_may_be_adopted_yet_or_is_not_ours_is_left_alone(
    session: Marked, bound: Bound
) -> None:
    account = Account(session)
    await sweeper(account, Rows({KEY: bound})).sweep()
    assert account.archived == []


async def test_the_next_look_goes_back_to_what_was_undecided() -> None:
    account = Account(made("adoptable", timedelta(hours=5)))
    rows = Rows({KEY: Bound("", working=True)})
    sweeping = sweeper(account, rows)
    await sweeping.sweep()
    rows.rows = {KEY: Bound("other", working=False)}
    await sweeping.sweep()
    await sweeping.sweep()
    assert account.asked == [
        NOW - timedelta(days=7),
        NOW - timedelta(hours=5),
        NOW - timedelta(minutes=30),
    ]
    assert account.archived[0] == "adoptable"


@virtual
async def test_a_provider_that_is_away_is_asked_again_and_only_one_worker_asks() -> None:
    account, others = Account(made("left")), Account(made("left"))
    account.failing = 2
    rows = {KEY: Bound("", working=False)}
    loops = [
        asyncio.create_task(sweeper(account, Rows(rows)).run()),
        asyncio.create_task(sweeper(others, Rows(rows, mine=False)).run()),
        asyncio.create_task(sweeper(others, Rows(rows), seconds=0).run()),
    ]
    await asyncio.sleep(1_500)
    for loop in loops:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)
    assert account.asked == [NOW - timedelta(days=7)] * 3
    assert account.archived == ["left"]
    assert others.asked == []


async def test_an_orphan_that_cannot_be_archived_does_not_stop_the_sweep() -> None:
    account = Account(made("runs"), made("left"))
    account.refuses = {"runs"}
    look = sweeper(account, Rows({KEY: Bound("", working=False)}))
    assert await look.sweep() == 1
    assert account.archived == ["left"]
    account.refuses.clear()
    assert await look.sweep() == 2
    assert account.archived == ["left", "runs", "left"]
    assert account.asked[1] == NOW - OLD, "the next look goes back to it"
