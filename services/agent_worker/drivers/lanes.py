"""The lane of a request to the provider: by its path, unless the task was put in a lane."""

from __future__ import annotations

from services.agent_worker.governor import whose
from services.agent_worker.governor.plan import BACKGROUND, CREATE, LIST, RECONNECT, SEND

# By the operations of `client`; those that are not here can wait.
LANES = {
    "sessions.create": CREATE,
    "agents.create": CREATE,
    "environments.create": CREATE,
    "events.stream": RECONNECT,
    "threads.events.stream": RECONNECT,
    "events.send": SEND,
    "agents.update": SEND,
    "events.list": LIST,
    "threads.events.list": LIST,
    "sessions.list": LIST,
    "sessions.retrieve": LIST,
    "agents.list": LIST,
    "environments.list": LIST,
    "agents.retrieve": LIST,
    "environments.retrieve": LIST,
    "vaults.retrieve": LIST,
}


def lane_of(operation: str) -> str:
    """The lane; what makes something counts against a limit of its own whoever asks for it."""
    usual = LANES.get(operation, BACKGROUND)
    return usual if usual == CREATE else whose.lane_or(usual)
