"""Makes what the core is told of the provider: every input carries the worker's time and a draw of chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from services.agent_worker.ports import ProviderFailure
from shared.clock import Clock
from shared.moment import rfc3339
from shared.session.inputs import Failed, ProviderEvent, Seen


@dataclass(frozen=True, slots=True)
class CoreInputs:
    """`chance` draws from [0, 1)."""

    clock: Clock
    chance: Callable[[], float]

    def now(self) -> str:
        """The worker's time, as events carry it."""
        return rfc3339(self.clock())

    def seen(self, events: tuple[ProviderEvent, ...], provider_session_id: str) -> Seen:
        """That provider session gave these events now."""
        return Seen(
            events=events,
            at=self.now(),
            chance=self.chance(),
            provider_session_id=provider_session_id,
        )

    def failed(
        self, turn_id: str, failure: ProviderFailure, provider_session_id: str = ""
    ) -> Failed:
        """The provider failed that turn now; by the stream of that provider session, if one is named."""
        return Failed(
            turn_id=turn_id,
            reason=failure.reason,
            detail=failure.detail,
            at=self.now(),
            chance=self.chance(),
            final=failure.final,
            lost=failure.lost,
            retry_after=failure.retry_after,
            provider_session_id=provider_session_id,
        )
