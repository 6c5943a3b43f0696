"""What a session's caps ask of a write: money reserved for a turn that begins, given back by one that ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from services.agent_worker.ports import CapReached, Caps, Money
from shared.session import Decision
from shared.session.caps import CAP_REACHED, CAP_RESERVED, Cap, Spender
from shared.session.inputs import Filed, Input, SessionRequested, TurnRequested
from shared.session.policy import Barred, Policy
from shared.session.state import SessionState


class Spending:
    """`least`: millionths of a US dollar that a turn reserves at least."""

    def __init__(self, caps: Caps, least: int) -> None:
        self._caps = caps
        self._least = least

    def of(self, state: SessionState, inputs: Sequence[Input]) -> tuple[Cap, ...]:
        """The caps that count for the session."""
        return self._caps.of(_spender(state, inputs))

    def policy(
        self,
        policy: Policy,
        state: SessionState,
        inputs: Sequence[Input],
        barred: Mapping[str, Barred],
    ) -> Policy:
        """The policy for a session that caps count for, or not."""
        if not self.of(state, inputs):
            return policy
        return replace(policy, capped=True, barred=barred)

    def money(
        self, before: SessionState, decision: Decision, inputs: Sequence[Input]
    ) -> Money | None:
        """What the write of a decision does besides; None: nothing."""
        caps = self.of(before, inputs)
        held, wanted = _reserved(before), _reserved(decision.state)
        reserve = wanted if wanted != held else None
        release = held if held is not None and held != decision.state.open_turn else None
        charges = caps and any(event.type == "session.charged" for event in decision.events)
        if reserve is None and release is None and not charges:
            return None
        return Money(
            spender=_spender(before, inputs),
            caps=caps,
            reserve=reserve,
            release=release,
            least=self._least,
        )

    def barred(self, short: CapReached, chance: float) -> Barred:
        """What the store said, for the core."""
        kind = CAP_RESERVED if short.refusal.waits else CAP_REACHED
        return Barred(type=kind, words=short.words, waits=short.refusal.waits, chance=chance)


def _reserved(state: SessionState) -> str | None:
    """The turn that money is set aside for."""
    return state.open_turn if state.progress is not None and state.progress.reserved else None


def _spender(state: SessionState, inputs: Sequence[Input]) -> Spender:
    """Who pays: a session's user is that of the request that opens it."""
    user_id = state.user_id
    if state.status == "new":
        requests = (input.request for input in inputs if isinstance(input, Filed))
        opening = (one for one in requests if isinstance(one, SessionRequested | TurnRequested))
        user_id = next((one.user_id for one in opening), "")
    return Spender(tenant_id=state.tenant_id, user_id=user_id, session_id=state.session_id)
