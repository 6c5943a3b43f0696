"""What token deltas tell of the open turn, beside the previews that are made of them."""

from __future__ import annotations

from collections.abc import Callable

from shared.session import provider
from shared.session.inputs import Heard
from shared.session.state import SessionState


class Hearing:
    """Hears a driven session's deltas. `now`: the worker's time, as events carry it. What was heard ends with this
    driver: the next one knows of a delta only what an event says, or a later delta before any message is finished.
    """

    def __init__(self, now: Callable[[], str]) -> None:
        self._now = now
        self._heard: Heard | None = None

    def hear(self, state: SessionState, raw: bytes) -> None:
        """Take a raw `event_start` or `event_delta` that came while the session stood like that."""
        turn = state.turn
        if turn is None or turn.reply is not None:
            return
        if self._heard is not None and self._heard.turn_id == turn.turn_id:
            return
        if provider.head(raw).type == "event_delta":
            self._heard = Heard(turn_id=turn.turn_id, first_token_at=self._now())

    def of(self, state: SessionState) -> Heard | None:
        """What was heard of the open turn. What came while the agent answers somebody else is not of it."""
        if state.progress is not None and state.progress.stray:
            self._heard = None
        return self._heard
