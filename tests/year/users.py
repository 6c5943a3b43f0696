"""What users do in a year, by a seed: visits of a few turns, mostly days apart, and now and then a job."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import Any

from shared.moment import rfc3339
from shared.session.caps import Cap
from shared.session.inputs import Filed, Request, SessionRequested, ToolConfirmed, TurnRequested
from tests.year.provider import ASKS
from tests.year.world import World

DAY = 86_400.0
# Once a day many come within seconds.
RUSH = 9 * 3600.0
# A tenant without a cap, one with a cap on each user, one with a cap of its own, one with a cap on each session.
TENANTS = ("open", "free", "team", "fixed")
FREE_USD, TEAM_USD_A_USER, FIXED_USD = 0.25, 0.10, 1.5


def caps(users: int) -> tuple[Cap, ...]:
    """The caps of the tenants, so low that many of them are reached."""
    members = max(1, users // len(TENANTS))
    return (
        Cap(tenant_id="free", scope="user", who="*", period="month", limit=round(FREE_USD * 1e6)),
        Cap(
            tenant_id="team",
            scope="tenant",
            who="",
            period="month",
            limit=round(members * TEAM_USD_A_USER * 1e6),
        ),
        Cap(
            tenant_id="fixed", scope="session", who="*", period="all", limit=round(FIXED_USD * 1e6)
        ),
    )


@dataclass(slots=True)
class User:
    """One user; `asked` are the ids of its turns. A turn's id is its text's first word."""

    world: World
    number: int
    draw: Random
    days: float
    visits_a_year: float
    asked: list[str] = field(default_factory=list)

    async def live(self) -> None:
        """All of its year."""
        left = self.days * DAY
        while True:
            wait = self.draw.expovariate(self.visits_a_year / (365 * DAY))
            if self.draw.random() < 0.3:
                today = (self.world.passed + wait) % DAY
                wait += (RUSH - today) % DAY + self.draw.uniform(0.0, 5.0)
            if self.world.passed + wait >= left:
                return
            await asyncio.sleep(wait)
            await (self._job() if self.draw.random() < 0.1 else self._visit(f"u{self.number}"))

    async def _job(self) -> None:
        session = f"u{self.number}-job-{len(self.asked)}"
        self._ask(SessionRequested(user_id=self._name, mode="background", **self._whose(session)))
        await self._turn(session)

    async def _visit(self, session: str) -> None:
        for n in range(self.draw.randint(1, 4)):
            if n:
                await asyncio.sleep(self.draw.expovariate(1 / 90.0))
            await self._turn(session)

    async def _turn(self, session: str) -> None:
        id = f"u{self.number}t{len(self.asked)}"
        self.asked.append(id)
        text = f"{id} {ASKS if self.draw.random() < 0.03 else ''}"
        patience = self.draw.expovariate(1 / 3600.0)
        self._ask(
            TurnRequested(user_id=self._name, turn_id=id, content=text, **self._whose(session))
        )
        while (heard := await self.world.log.end_of(id)).startswith("sevt_"):
            await asyncio.sleep(patience)
            self._ask(ToolConfirmed(tool_use_id=heard, result="allow", **self._whose(session)))

    @property
    def _name(self) -> str:
        return f"u{self.number}"

    def _whose(self, session: str) -> dict[str, Any]:
        tenant = TENANTS[self.number % len(TENANTS)]
        at = rfc3339(self.world.clock())
        return {"tenant_id": tenant, "session_id": f"{tenant}-{session}", "at": at}

    def _ask(self, request: Request) -> None:
        self.world.put(Filed(input_id=f"ce:{self.number}:{self.world.next_id()}", request=request))
