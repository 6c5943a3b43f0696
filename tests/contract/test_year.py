"""Some days of a year on the stores that run in production: nothing is lost, and the judge reads their tables."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from shared.session.caps import Spender
from tests.fakes.caps import Reservation
from tests.year.play import Options, Year, play

pytestmark = pytest.mark.contract


def _days(url: str) -> Year:
    return play(Options(users=4, days=5, workers=2, seed=3, visits=250.0, kill_after=60, url=url))


@pytest.fixture(params=["sqlite", "postgresql"])
async def year(request: pytest.FixtureRequest, tmp_path: Path, postgres_url: str) -> Year:
    sqlite = f"sqlite+aiosqlite:///{tmp_path / 'year.db'}"
    return await asyncio.to_thread(_days, sqlite if request.param == "sqlite" else postgres_url)


async def test_a_few_days_of_killed_workers_on_a_real_database(year: Year) -> None:
    judged = year.judged()
    assert judged.wrong == [], "\n".join(judged.wrong)
    assert year.killed, "no worker was killed"
    assert year.world.store.rows, "nothing was read of the database"
    assert sum(year.world.store.books.spent.values()), "no account was charged"
    key = next(iter(year.world.store.rows))
    spender = Spender(tenant_id=key[0], user_id="u1", session_id=key[1])
    year.world.store.books.reservations[key] = Reservation("u1t0", spender, 1)
    assert "left reserved" in year.judged().wrong[0]
