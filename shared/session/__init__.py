"""The pure machine of a session: no clock, no chance, no IO.

`decide(state, input) -> Decision` says what happens, `evolve(state, event) -> state` what it means, and
`fold(events) -> state` says it for many. Worker, gateway, replay and tests call the same functions.

Words. *Session*: our durable conversation. *Turn*: one user input and everything until the agent is idle again.
*Attempt*: one try to have the agent do a turn. *Input*: what can happen to a session. *Event*: a recorded fact.
*Command*: what a decision asks the worker to do. *Provider session*: the conversation at the provider; a session
has one at a time and may have several in its life.
"""

from shared.session.decide import decide
from shared.session.decision import Decision
from shared.session.events import Event, read_event
from shared.session.evolve import evolve, fold
from shared.session.inputs import Input, Request, read_request
from shared.session.state import SessionState, initial

__all__ = [
    "Decision",
    "Event",
    "Input",
    "Request",
    "SessionState",
    "decide",
    "evolve",
    "fold",
    "initial",
    "read_event",
    "read_request",
]
