"""What token deltas tell of the open turn, beside the previews that are made of them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Struct

from shared.session.inputs import Heard
from shared.session.state import SessionState

# Characters kept of a message in the making.
MOST_TEXT = 65_536


class _Started(Struct, frozen=True):
    id: str = ""
    type: str = ""


class _Content(Struct, frozen=True):
    text: str = ""


class _Delta(Struct, frozen=True):
    content: _Content = _Content()


class _Raw(Struct, frozen=True):
    type: str = ""
    event: _Started = _Started()
    event_id: str = ""
    delta: _Delta = _Delta()


_raw = msgspec.json.Decoder(_Raw)


class Hearing:
    """Hears a driven session's deltas. `now`: the worker's time, as events carry it. What was heard ends with this
    driver: the next one knows of a delta only what an event says, or a later delta before any message is finished.
    """

    def __init__(self, now: Callable[[], str]) -> None:
        self._now = now
        self._turn_id = self._first_token_at = self._message_id = ""
        self._texts: list[str] = []
        self._length = 0

    def hear(self, state: SessionState, raw: bytes) -> None:
        """Take a raw `event_start` or `event_delta` that came while the session stood like that."""
        try:
            said = _raw.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return  # nothing to be shown, nor to be kept
        if state.turn is None:
            return
        if state.turn.turn_id != self._turn_id:
            self._turn_id, self._first_token_at = state.turn.turn_id, ""
            self._begin("")
        if said.type == "event_start":
            self._begin(said.event.id)
        elif said.type == "event_delta":
            if not self._first_token_at and state.turn.reply is None:
                self._first_token_at = self._now()
            if said.event_id == self._message_id and self._length < MOST_TEXT:
                self._texts.append(said.delta.content.text)
                self._length += len(self._texts[-1])

    def _begin(self, message_id: str) -> None:
        self._message_id, self._texts, self._length = message_id, [], 0

    def of(self, state: SessionState) -> Heard | None:
        """What was heard of the open turn. What came while the agent answers somebody else is not of it."""
        if state.progress is not None and state.progress.stray:
            self._first_token_at = ""
            self._begin("")
        if not self._first_token_at and not self._texts:
            return None
        return Heard(
            turn_id=self._turn_id,
            first_token_at=self._first_token_at,
            message_id=self._message_id,
            text="".join(self._texts)[:MOST_TEXT],
        )
