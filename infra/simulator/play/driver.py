"""The agent: one driver task per session with work, which ends when there is none."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from infra.simulator.chance import dice
from infra.simulator.play import runs, status
from infra.simulator.play.casting import Casting
from infra.simulator.play.plan import Plan
from infra.simulator.play.session import Session
from infra.simulator.play.stage import Interrupted, Stage
from infra.simulator.play.turn import Prompt, Turn, TurnDied

log = logging.getLogger("infra.simulator")


class Driver:
    """Drives the sessions of one simulator at its pace (1: like real agents, 0: no waiting)."""

    def __init__(self, casting: Casting, pace: float) -> None:
        self._casting = casting
        self._pace = pace
        self._tasks: set[asyncio.Task[None]] = set()

    def wake(self, session: Session) -> None:
        """Makes sure someone works on what came in. Returns at once."""
        session.nudge.set()
        if session.driver is None and not session.inert and not session.over:
            session.driver = asyncio.get_running_loop().create_task(self._drive(session))
            self._tasks.add(session.driver)
            session.driver.add_done_callback(self._tasks.discard)

    def drop(self, session: Session) -> None:
        """Stops work on a session that was archived or deleted."""
        if session.driver is not None:
            session.driver.cancel()
            session.driver = None

    async def stop(self) -> None:
        """Cancels all work and waits for it to end."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _drive(self, session: Session) -> None:
        # Named here: who is thrown away with a loop that ended cannot ask for its task any more.
        mine = session.driver
        try:
            while not (session.inert or session.over) and await self._one(session):
                pass
        except Exception as error:
            error.add_note(f"session {session.id}: a defect of the simulator")
            log.exception("driver_failed")
        finally:
            if session.driver is mine:
                session.driver = None

    async def _one(self, session: Session) -> bool:
        """The next piece of work. False when nothing is left."""
        if session.interrupts:  # nothing runs: it is echoed and nothing follows
            session.process(session.interrupts.popleft())
        elif session.answers:
            _keep_spare(session)
        elif session.inbox:
            await self._period(session)
        else:
            return False
        return True

    async def _period(self, session: Session) -> None:
        """One running period: from the running pair to the idle that ends it."""
        session.turns += 1
        plan = self._cast(session)
        pace = self._pace if plan.pace is None else plan.pace
        prompt = Prompt()
        turn_dice = dice("turn", session.birth.seed, session.birth.number, session.turns)
        stage = Stage(session, turn_dice, pace, prompt.reply, cut=plan.cut, cache=plan.cache)
        turn = Turn(stage, prompt)
        status.run(session, errors=plan.opening_errors)
        try:
            await turn.play(plan)
            while session.inbox and plan.stop == "end_turn" and not session.over_budget:
                plan = self._cast(session)
                await turn.play(plan)
            self._close(session, plan.stop)
        except Interrupted:
            turn.interrupted()
        except TurnDied as death:
            _die(session, death, inert=plan.inert)
        await self._afterthought(stage, session.late_events + plan.late)

    async def _afterthought(self, stage: Stage, count: int) -> None:
        """Late events: they come after the idle, with nothing running."""
        stage.session.late_events = 0
        runs.close_open(stage.session)
        for _ in range(count):
            with contextlib.suppress(Interrupted):
                await stage.pause(0.2, 1.0)
            if not stage.session.over:
                stage.session.emit_usage()

    def _cast(self, session: Session) -> Plan:
        newest = next(
            (i for i in reversed(session.inbox) if i.type != "system.message"), session.inbox[-1]
        )
        if newest.type == "user.define_outcome":
            return self._casting.outcome_plan(newest.body)
        return self._casting.plan(newest.body.get("content", []))

    def _close(self, session: Session, stop: str) -> None:
        if session.over_budget:
            session.budget_stop = True
            status.rest(session, {"type": "budget_reached"}, thread_stop={"type": stop})
        else:
            status.rest(session, {"type": stop})


def _keep_spare(session: Session) -> None:
    """A second answer to a call on a resting session: kept, a running and idle pair, no model."""
    while session.answers:
        session.process(session.answers.popleft())
    status.run(session)
    status.rest(session, {"type": "end_turn"})


def _die(session: Session, death: TurnDied, *, inert: bool) -> None:
    """After a failure: terminated, or idle with every queued input dropped.

    A dropped message stays in the list as it is, without `processed_at`, and is never worked on.
    """
    session.inbox.clear()
    session.inert = inert
    if death.failure.retry == "terminal":
        status.terminate(session, listed=True)
    else:
        status.rest(session, {"type": "retries_exhausted"})
