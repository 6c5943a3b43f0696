"""given(events) · when(input) · then(events, commands): what the core promises, as sentences.

`given` folds events; `history` makes such events by letting the core decide on inputs, so that no test starts from
a past that cannot be.
"""

from __future__ import annotations

from typing import Any

import msgspec

from shared.session import Event, Input, SessionState, decide, fold, initial
from shared.session.commands import AnyCommand
from shared.session.decision import Decision
from shared.session.lifetimes import Lifetimes, read
from shared.session.policy import DEFAULT, Policy
from tests.builders import SESSION, TENANT

# Idle after 15 minutes, archived an hour later.
RESTING = Policy(
    lifetimes=Lifetimes(
        idle=read("900", most=1e6),
        archive=read("3600", most=1e6),
    )
)

# And a provider session has one turn.
WEARING = Policy(lifetimes=Lifetimes(turns=read("1", most=1e6)))


def history(*inputs: Input, policy: Policy = DEFAULT) -> tuple[Event, ...]:
    """The events that these inputs come to, one after the other, in a new session."""
    state, events = initial(TENANT, SESSION), list[Event]()
    for input in inputs:
        decision = decide(state, input, policy)
        state = decision.state
        events += decision.events
    return tuple(events)


class Then:
    """What was decided."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.state = decision.state
        self.events = decision.events

    def then(self, *types: str, commands: tuple[AnyCommand, ...] = ()) -> Then:
        """Exactly these events, in this order, and exactly these commands."""
        assert [event.type for event in self.events] == list(types)
        assert self.decision.commands == commands
        return self

    def saying(self, type: str, **fields: Any) -> Then:
        """The one event of that type has these fields in its data."""
        (event,) = (event for event in self.events if event.type == type)
        data = msgspec.json.decode(event.data)
        assert {name: data.get(name) for name in fields} == fields
        return self


class Given:
    """A session as its events made it."""

    def __init__(self, state: SessionState) -> None:
        self.state = state

    def when(self, input: Input, policy: Policy = DEFAULT) -> Then:
        """Let the core decide; checks what holds for every decision."""
        decision = decide(self.state, input, policy)
        expected = range(self.state.last_seq + 1, self.state.last_seq + 1 + len(decision.events))
        assert [event.seq for event in decision.events] == list(expected), "seq has a gap"
        assert fold(decision.events, self.state) == decision.state, "decide and fold differ"
        return Then(decision)


def given(*events: Event) -> Given:
    """The session after these events; a new one without any."""
    return Given(fold(events) if events else initial(TENANT, SESSION))


def after(*inputs: Input) -> Given:
    """The session after these inputs."""
    return given(*history(*inputs))
