"""Drives a rerun: what is sent next, what is waited for, when it is over.

The archive is asked how far the shadow sessions are, also by a run that is begun again: nothing is kept here that a
crash could lose. One turn of a session is under way at a time, several sessions are.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Literal

from msgspec import Struct

from services.operator.archive import ArchiveReader
from services.operator.failures import Impossible
from services.operator.inputs import Ask
from services.operator.past import ToldTurn
from services.operator.reruns import plan as rerun_plan
from services.operator.reruns.bounds import Pace, RunBudget
from services.operator.reruns.plan import Plan
from shared.clock import utcnow

LOOK_EVERY_S = 0.5
# Nothing at all heard of a session that was asked for: nobody takes inputs in.
SILENT_S = 120.0
TURN_ENDS = frozenset({"completed", "interrupted", "refused", "failed"})
Ended = Literal["done", "budget", "stopped"]

TURNS = """
SELECT session_id, turn_id, status, toFloat64(cost_usd) FROM turn_facts
WHERE tenant_id = {tenant:String} AND session_id IN {shadows:Array(String)}
"""
ASKED = """
SELECT data FROM events
WHERE tenant_id = {tenant:String} AND session_id = {shadow:String} AND turn_id = {turn:String}
    AND type = 'turn.requires_action'
ORDER BY seq DESC LIMIT 1
"""


class Wanted(Struct, frozen=True, kw_only=True):
    """What the command line asks for. `patience`: seconds that one turn may take; `sessions`: how many at once."""

    run: str
    agent: str
    patience: float
    sessions: int


class _Walk:
    """How far one shadow session is: the turn under way, and since when it is waited for."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.turn: ToldTurn | None = None
        self.since = 0.0
        self.answered: set[str] = set()


class Rerun:
    """Drives plans of one tenant to their ends. `say` is called with lines of progress."""

    def __init__(
        self,
        wanted: Wanted,
        archive: ArchiveReader,
        ask: Ask,
        bounds: tuple[Pace, RunBudget],
        say: Callable[[str], None],
    ) -> None:
        self._wanted = wanted
        self._archive = archive
        self._ask = ask
        self._pace, self._run_budget = bounds
        self._say = say
        self._heard: dict[str, dict[str, str]] = {}
        self._ended: Ended = "done"

    async def run(self, plans: Sequence[Plan], stopping: asyncio.Event) -> Ended:
        """Drive until all turns have ended, the money would not last, or `stopping` is set; turns under way are
        waited for in every case. Raises Impossible when nobody takes the turns in or one outlasts the patience."""
        waiting, walks = list(plans), list[_Walk]()
        await self._look(waiting)
        while waiting or walks:
            if stopping.is_set():
                self._ended = "stopped"
            while waiting and self._ended == "done" and len(walks) < self._wanted.sessions:
                if await self._open(waiting[0]):
                    walks.append(_Walk(waiting.pop(0)))
                elif walks:  # what they don't use is free when they end
                    break
                else:
                    self._ended = "budget"
            if self._ended != "done":
                waiting = []
            walks = [walk for walk in walks if await self._goes_on(walk)]
            if waiting or walks:
                await asyncio.sleep(LOOK_EVERY_S)
                await self._look([walk.plan for walk in walks])
        return self._ended

    async def _open(self, plan: Plan) -> bool:
        """Open a shadow session, or find it at its end; returns False when the money left would not pay for it."""
        if self._next(plan) is None:
            return True
        budget = self._run_budget.open(plan.shadow, plan.cost_usd)
        if budget is not None:
            run, agent = self._wanted.run, self._wanted.agent
            await self._ask(rerun_plan.opening(plan, run, agent, budget, utcnow()))
        return budget is not None

    async def _goes_on(self, walk: _Walk) -> bool:
        """Take the next step of a session; returns whether there are more."""
        now = asyncio.get_running_loop().time()
        if walk.turn is not None:
            status = self._status(walk.plan, walk.turn)
            if status not in TURN_ENDS:
                await self._wait(walk, walk.turn, status, now)
                return True
            walk.turn = None
        told = self._next(walk.plan)
        if told is None:
            await self._ask(rerun_plan.closing(walk.plan, utcnow()))
            self._run_budget.close(walk.plan.shadow)
            return False
        if (
            self._status(walk.plan, told) is not None
        ):  # under way since an earlier begin of this run
            walk.turn, walk.since = told, now
            return True
        if self._ended == "done" and not self._run_budget.lasts(walk.plan.shadow):
            self._ended = "budget"
        if self._ended == "done" and self._pace.allows(now):
            walk.turn, walk.since = told, now
            await self._ask(rerun_plan.sending(walk.plan, told, self._wanted.agent, utcnow()))
            place = walk.plan.turns.index(told) + 1
            self._say(f"{walk.plan.session}: turn {place} of {len(walk.plan.turns)} is sent")
        return self._ended == "done" or walk.turn is not None

    async def _wait(self, walk: _Walk, told: ToldTurn, status: str | None, now: float) -> None:
        """Give what is asked for, and see that it does not last for ever."""
        if status == "requires_action":
            await self._answer(walk, told)
        waited = now - walk.since
        if status is None and waited > SILENT_S:
            raise Impossible(
                f"nothing was heard of {walk.plan.shadow} for {waited:.0f} s: do agent-worker and "
                f"recorder run, and is tenant {walk.plan.tenant} served? See `turnstile dead list`"
            )
        if waited > self._wanted.patience:
            raise Impossible(
                f"turn {told.turn_id} of {walk.plan.shadow} is {status} after {waited:.0f} s: "
                f"go on with --run {self._wanted.run}, or give it more with --patience"
            )

    async def _answer(self, walk: _Walk, told: ToldTurn) -> None:
        """Answer what waits as it was answered in the record."""
        parameters = {"tenant": walk.plan.tenant, "shadow": walk.plan.shadow, "turn": told.turn_id}
        rows = await asyncio.to_thread(self._archive.query, ASKED, **parameters)
        for action in json.loads(rows[0][0])["pending_actions"] if rows else ():
            # One that is named before it came is described in a moment.
            if action["name"] and action["tool_use_id"] not in walk.answered:
                walk.answered.add(action["tool_use_id"])
                await self._ask(rerun_plan.answering(walk.plan, told, action, utcnow()))

    def _next(self, plan: Plan) -> ToldTurn | None:
        """The first turn that has not ended."""
        open_ones = (told for told in plan.turns if self._status(plan, told) not in TURN_ENDS)
        return next(open_ones, None)

    def _status(self, plan: Plan, told: ToldTurn) -> str | None:
        return self._heard.get(plan.shadow, {}).get(told.turn_id)

    async def _look(self, plans: Sequence[Plan]) -> None:
        """Read how far these are."""
        if not plans:
            return
        tenant, shadows = plans[0].tenant, [plan.shadow for plan in plans]
        rows = await asyncio.to_thread(self._archive.query, TURNS, tenant=tenant, shadows=shadows)
        costs: dict[str, float] = defaultdict(float)
        for shadow, turn_id, status, cost in rows:
            self._heard.setdefault(shadow, {})[turn_id] = status
            costs[shadow] += cost
        for shadow, cost in costs.items():
            self._run_budget.pay(shadow, cost)
