"""What the sessions of one process are driven with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from services.agent_worker.ports import Provider, Publisher, Store
from services.agent_worker.session.tools import Toolbox
from services.agent_worker.session.trace import Attempts
from shared.clock import Clock
from shared.session.policy import Policy


@dataclass(frozen=True, slots=True)
class Dependencies:
    """One process's. `chance` draws from [0, 1). `linger`: seconds an idle session stays claimed with its stream
    open, so that the next turn of a conversation starts at once. `opening`: seconds a stream may take. `tools`:
    those that it runs itself."""

    store: Store
    publisher: Publisher
    provider: Provider
    clock: Clock
    chance: Callable[[], float]
    policy: Policy = field(default_factory=Policy)
    linger: float = 5.0
    opening: float = 30.0
    attempts: Attempts = field(default_factory=Attempts)
    tools: Toolbox = field(default_factory=Toolbox)
