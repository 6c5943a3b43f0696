"""A session told what happens, traced and measured as the shell does it, with no shell around."""

from __future__ import annotations

from datetime import datetime, timedelta

from services.agent_worker.session import trace
from services.agent_worker.session.trace import Attempts, Claim, TurnTrace
from shared.session import decide
from shared.session.events import Event
from shared.session.inputs import Input
from shared.session.state import SessionState, initial
from tests.builders import BEGINNING, SESSION, TENANT


def moment(second: float) -> datetime:
    """That many seconds after the beginning of every test."""
    return BEGINNING + timedelta(seconds=second)


class Told:
    """One driver of a session, from claim to release."""

    def __init__(
        self,
        state: SessionState | None = None,
        attempts: Attempts | None = None,
        second: float = 0.0,
    ) -> None:
        self.state = state or initial(TENANT, SESSION)
        self.attempts = attempts or Attempts()
        claim = Claim.lately(3, 0.25, moment(second))
        self.trace = TurnTrace(self.attempts, claim)
        self.trace.resume(self.state, moment(second))

    def tell(self, *inputs: Input, second: float = 0.0) -> list[Event]:
        """Write, say and follow what `inputs` come to, at that second by the worker's clock."""
        before, state, events = self.state, self.state, list[Event]()
        for input in inputs:
            decision = decide(state, input)
            state = decision.state
            events += decision.events
        with self.trace.writing(before, state, len(events)):
            self.state = state
        trace.recorded(events, before, state, moment(second))
        self.trace.know(state)
        with self.trace.saying(before, state, len(events)):
            pass
        self.trace.follow(events, state, moment(second))
        return events

    def leave(self, second: float) -> None:
        """Give the session back."""
        self.trace.leave(self.state, moment(second))
