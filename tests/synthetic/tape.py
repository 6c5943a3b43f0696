"""Writes the log of one session event after event: number, id, time and totals are kept here.

Ids and sums are those of a real log: `seq` has no gap, the provider's ids are unlike, `session.usage` adds up what
the model requests reported and what they and the running time cost at list price, in nearest cents.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from random import Random
from typing import Any

import msgspec
from msgspec import Raw, Struct

from infra.simulator.play.usage import Tokens, Usage, nearest_cent
from shared.moment import rfc3339
from shared.session.events import Event
from shared.session.events import Usage as TurnUsage
from tests.synthetic.standing import Standing

_encode = msgspec.json.Encoder().encode


class Tape:
    """The lines of one session so far. `turn` is the open turn; provider events carry it. `used` and `cost_usd` are
    totals over all its turns."""

    def __init__(
        self, names: tuple[str, str, str], token: str, began: datetime, chance: Random, model: str
    ) -> None:
        self.tenant_id, self.session_id, self.user_id = names
        self.chance, self.model, self.at = chance, model, began
        self.lines: list[bytes] = []
        self.turn: Standing | None = None
        self.used, self.cost_usd = TurnUsage(), 0.0
        self._token = token
        self._running_since: datetime | None = None
        self.new_provider_session()

    @property
    def now(self) -> str:
        return rfc3339(self.at)

    @property
    def cents(self) -> int:
        """What the provider session has cost so far, to the nearest cent."""
        return nearest_cent(self._usage.spent())

    def new_provider_session(self) -> None:
        """From now on the events are another provider session's: its totals begin at nothing."""
        self.provider_session_id = self.ident("sesn")
        self.thread = self.ident("sthr")
        self._usage = Usage()

    def wait(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)

    def ident(self, kind: str) -> str:
        """An id as the provider makes them; unlike every other one of the session and of its copies."""
        return f"{kind}_01{self.chance.getrandbits(48):012x}{self._token}"

    def own(self, kind: str, data: Struct) -> None:
        """An event of Turnstile."""
        turn = self.turn if kind.startswith("turn.") else None
        self._write(f"{self.session_id}:{len(self.lines) + 1}", kind, turn, data)

    def seen(
        self, kind: str, *, child: str | None = None, model: str | None = None, **fields: Any
    ) -> str:
        """An event of the provider, of the child thread if one is named; its id."""
        self.at += timedelta(microseconds=self.chance.randrange(20, 900))
        ident = self.ident("sevt")
        data = {"id": ident, "type": kind, "processed_at": self.now, **fields}
        self._write(ident, kind, self.turn, data, child, model)
        return ident

    def running(self) -> None:
        """The provider session works."""
        self._running_since = self.at
        self.seen("session.status_running")
        self.seen(
            "session.thread_status_running", session_thread_id=self.thread, agent_name="turnstile"
        )

    def idle(self, stop: str, waiting_for: Iterable[str] = ()) -> None:
        """The provider session rests: thread, totals, session."""
        reason: dict[str, Any] = {"type": stop}
        if waiting_for:
            reason["event_ids"] = list(waiting_for)
        self.seen(
            "session.thread_status_idle",
            session_thread_id=self.thread, agent_name="turnstile", stop_reason=reason,
        )  # fmt: skip
        if self._running_since is not None:
            self._usage.active += int((self.at - self._running_since).total_seconds() * 1e6)
            self._running_since = None
        if self.turn is not None:
            self.turn.cost_usd = (self.cents - self.turn.cents_before) / 100
        self.seen("session.usage", usage=self._usage.of_session())
        self.seen("session.status_idle", stop_reason=reason)

    def spent(self, tokens: Tokens) -> None:
        """A model request reported these: they count for the session (`used`) and for the open turn."""
        self._usage.add(self.model, tokens)
        self.used = self.used + _as_usage(tokens)
        turn = self.turn
        if turn is not None:
            turn.usage = turn.usage + _as_usage(tokens)

    def _write(
        self, ident: str, kind: str, turn: Standing | None, data: Any,
        child: str | None = None, model: str | None = None,
    ) -> None:  # fmt: skip
        event = Event(
            tenant_id=self.tenant_id,
            session_id=self.session_id,
            seq=len(self.lines) + 1,
            event_id=ident,
            type=kind,
            turn_id=turn.turn_id if turn else None,
            at=self.now,
            user_id=self.user_id,
            thread_id=child,
            model=model,
            trace_id=turn.trace_id if turn else "",
            data=Raw(_encode(data)),
        )
        self.lines.append(_encode(event))


def _as_usage(tokens: Tokens) -> TurnUsage:
    return TurnUsage(
        input_tokens=tokens.fresh,
        output_tokens=tokens.output,
        cache_read_tokens=tokens.cache_read,
        cache_write_tokens=tokens.cache_write,
    )
