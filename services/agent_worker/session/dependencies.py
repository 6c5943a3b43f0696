"""What the sessions of one process are driven with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from services.agent_worker.ports import Caps, Provider, Publisher, Store
from services.agent_worker.session.patience import Places
from services.agent_worker.session.prewarmed import Prewarmed
from services.agent_worker.session.tools import Toolbox
from services.agent_worker.session.trace import Attempts
from shared.clock import Clock
from shared.session.caps import Cap, Spender
from shared.session.policy import Policy

# How many sessions at rest one process ends at the provider at once.
ENDING = 64


class NoCaps:
    """The Caps port where there are none."""

    def of(self, spender: Spender) -> tuple[Cap, ...]:
        """See Caps.of."""
        return ()


@dataclass(frozen=True, slots=True)
class Dependencies:
    """One process's. `chance` draws from [0, 1). `linger`: seconds an idle session stays claimed with its stream
    open, so that the next turn of a conversation starts at once. `opening`: seconds a stream may take. `tools`:
    those that it runs itself. `caps`: those there are; `turn_reserve`: millionths of a US dollar that a turn under
    one reserves at least."""

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
    caps: Caps = field(default_factory=NoCaps)
    turn_reserve: int = 1_000_000
    prewarmed: Prewarmed = field(default_factory=lambda: Prewarmed(64, 300.0, time.monotonic))
    ending: Places = field(default_factory=lambda: Places(ENDING))
