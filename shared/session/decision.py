"""What a decision is made of: the state it moves along, the events it records, the commands it gives."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from shared.session import provider
from shared.session.commands import AnyCommand
from shared.session.events import Charge, Event, SessionCharged, Turn, TurnError
from shared.session.evolve import evolve
from shared.session.evolve_provider import turn_of
from shared.session.inputs import Heard, ProviderEvent
from shared.session.ledger import MOST_WAITING, account_lines, late_lines, request_lines
from shared.session.policy import Policy
from shared.session.state import CLOSED, Progress, Queued, SessionState
from shared.session.transitions import after
from shared.trace_context import parted


class Decision(Struct, frozen=True):
    """What follows from an input: `events` to record in this order, `commands` to perform once both are stored."""

    state: SessionState
    events: tuple[Event, ...] = ()
    commands: tuple[AnyCommand, ...] = ()


class Draft:
    """A decision in the making. Every event recorded is folded at once, so that the next step sees its effect."""

    def __init__(self, state: SessionState, policy: Policy, heard: Heard | None = None) -> None:
        self.state = state
        self.policy = policy
        self._heard = heard
        self._events: list[Event] = []
        self._commands: list[AnyCommand] = []
        self.last_turn_id = ""

    def finish(self) -> Decision:
        """The decision as a value."""
        return Decision(self.state, tuple(self._events), tuple(self._commands))

    def ask(self, command: AnyCommand) -> None:
        """Have a command performed."""
        self._commands.append(command)

    def own(
        self,
        kind: str,
        data: Struct,
        *,
        at: str,
        turn_id: str | None = None,
        traceparent: str = "",
    ) -> None:
        """Record an event of ours; `traceparent` is needed only for a turn the state does not hold yet."""
        seq = self.state.last_seq + 1
        self._record(
            Event(
                tenant_id=self.state.tenant_id,
                session_id=self.state.session_id,
                seq=seq,
                event_id=f"{self.state.session_id}:{seq}",
                type=kind,
                turn_id=turn_id,
                at=at,
                user_id=self.state.user_id or getattr(data, "user_id", ""),
                trace_id=_trace_id(traceparent or self._traceparent(turn_id)),
                data=Raw(msgspec.json.encode(data)),
            )
        )

    def provider(self, seen: ProviderEvent) -> Event:
        """Record an event of the provider, its JSON untouched, as part of the turn it belongs to. The lines of an
        account are before it, so that whoever has read it knows what it came to."""
        turn_id = turn_of(self.state, seen.type, seen.thread_id, seen.raw)
        if seen.type == "session.usage" and seen.thread_id is None:
            self.settle(at=seen.at, account=seen, account_of=turn_id)
        event = Event(
            tenant_id=self.state.tenant_id,
            session_id=self.state.session_id,
            seq=self.state.last_seq + 1,
            event_id=seen.id,
            type=seen.type,
            turn_id=turn_id,
            at=seen.at,
            user_id=self.state.user_id,
            thread_id=seen.thread_id,
            model=self._model(seen),
            trace_id=_trace_id(self._traceparent(turn_id)),
            data=Raw(seen.raw),
        )
        self._record(event)
        if len(self.state.unsettled) >= MOST_WAITING:
            self.settle(at=seen.at)
        return event

    def _model(self, seen: ProviderEvent) -> str | None:
        if seen.type != "span.model_request_end":
            return None
        return self.state.model if seen.thread_id is None else seen.model

    def settle(
        self, *, at: str, account: ProviderEvent | None = None, account_of: str | None = None
    ) -> None:
        """Record the lines of model requests that have none yet, and those that an account (`session.usage`, for
        the turn `account_of` or the session itself) gives rise to. Nothing before the session has a ledger."""
        state = self.state
        if state.ledger is None:
            return
        lines: dict[str | None, list[Charge]] = {}
        if state.ledger.brought_forward:
            before = Charge(kind="brought_forward", micro_usd=state.ledger.brought_forward)
            lines[None] = [before]
        ledger, late = state.ledger, False
        for spent in state.unsettled:
            found = request_lines(ledger, spent, state.model or "", self.policy.prices)
            ledger = ledger.after(found)
            lines.setdefault(spent.turn_id, []).extend(found)
            late = late or any(line.kind == "unseen" for line in found)
        known = state.cost_cents - state.rotated_cents
        if late and account is None:
            newest = state.unsettled[-1]
            found = late_lines(ledger, known, newest.source)
            lines[newest.turn_id].extend(found)
        if account is not None:
            told = provider.account(account.raw)
            if told.cents is not None:
                told = replace(told, cents=max(told.cents, known))
            about = (account.id, state.model or "", at[:10])
            found = account_lines(ledger, told, *about, self.policy.prices)
            lines.setdefault(account_of, []).extend(found)
        for turn_id, of_turn in lines.items():
            self._charge(turn_id, of_turn, at=at)

    def _charge(self, turn_id: str | None, lines: list[Charge], *, at: str) -> None:
        if not lines:
            return
        charged = SessionCharged(
            provider_session_id=self.state.provider_session_id or "",
            agent=self.state.bound_agent or "",
            lines=tuple(lines),
        )
        self.own("session.charged", charged, at=at, turn_id=turn_id)

    def turn(
        self,
        kind: str,
        *,
        at: str,
        shape: type[Turn] = Turn,
        extra: dict[str, Any] | None = None,
        **changes: Any,
    ) -> None:
        """Record what became of the open turn: the turn as it stands, with `changes`, in its event's `shape`."""
        turn = self.state.turn
        assert turn is not None
        turn = replace(turn, first_token_at=self._first_token(turn))
        turn = replace(turn, status=after(turn.status, kind), **changes)
        self.own(kind, shape(**fields(turn), **(extra or {})), at=at, turn_id=turn.turn_id)

    def end(
        self,
        kind: str,
        *,
        at: str,
        stop_reason: str | None = None,
        error: TurnError | None = None,
    ) -> None:
        """Record the end of the open turn and of those that rode along with it; `last_turn_id` names it afterwards.

        What it cost is the open turn's alone: sums over turns stay true. One whose message the agent was not seen
        to have does not end with it, unless the session is closed.
        """
        self.settle(at=at)
        self.last_turn_id = self.state.open_turn or ""
        lead = self.state.turn
        assert lead is not None
        lead = replace(lead, first_token_at=self._first_token(lead))
        for rider in self.state.riders:
            if rider.steer != "sent":
                self._end_with(rider, lead, kind, at=at, stop_reason=stop_reason, error=error)
            elif self.state.status in CLOSED:
                self._end_with(rider, lead, "turn.interrupted", at=at)
        times = _last_times(lead, lead, at) | self._unfinished(lead, kind)
        self.turn(kind, at=at, stop_reason=stop_reason, error=error, **times)

    def _end_with(
        self,
        rider: Queued,
        lead: Turn,
        kind: str,
        *,
        at: str,
        stop_reason: str | None = None,
        error: TurnError | None = None,
    ) -> None:
        """Record the end of a turn that rode along with `lead`. What was said before it came is not its own."""
        turn = replace(
            rider.turn,
            status=after(rider.turn.status, kind),
            stop_reason=stop_reason,
            error=error,
            reply=lead.reply if rider.steer != "sent" else None,
            **_last_times(rider.turn, rider.turn if rider.steer else lead, at),
        )
        self.own(kind, turn, at=at, turn_id=turn.turn_id, traceparent=rider.traceparent)

    def _first_token(self, turn: Turn) -> str | None:
        """When the turn's first token came: a delta that was heard of, unless one was told of before. While another
        message is on its way, and nothing was put out, it may have been the answer to that."""
        heard = self._heard
        untold = turn.first_token_at == turn.first_output_at
        if self.state.steering is not None and turn.first_output_at is None:
            return turn.first_token_at
        if heard is None or heard.turn_id != turn.turn_id or not untold:
            return turn.first_token_at
        return heard.first_token_at or turn.first_token_at

    def _unfinished(self, turn: Turn, kind: str) -> dict[str, Any]:
        """The text of the message that the turn's end left in the making, if any was heard, and heard of this turn:
        behind its end the agent may have begun to answer a message that was on its way."""
        heard = self._heard
        if self.state.steering is not None:
            return {}
        if heard is None or heard.turn_id != turn.turn_id or kind == "turn.completed":
            return {}
        begun = heard.text and not self.state.knows(heard.message_id)
        return {"partial_text": heard.text} if begun else {}

    @property
    def progress(self) -> Progress:
        """Progress of the open turn; only to be asked while one is open."""
        assert self.state.progress is not None
        return self.state.progress

    def _record(self, event: Event) -> None:
        self._events.append(event)
        self.state = evolve(self.state, event)

    def _traceparent(self, turn_id: str | None) -> str:
        if turn_id is not None and turn_id == self.state.open_turn:
            return self.progress.traceparent
        others = (*self.state.riders, *self.state.queue)
        return next((q.traceparent for q in others if q.turn.turn_id == turn_id), "")


def _trace_id(traceparent: str) -> str:
    """Of the turn's own trace; a `traceparent` reads `00-<trace id>-<span id>-<flags>`."""
    parts = parted(traceparent)[0].split("-")
    return parts[1] if len(parts) == 4 else ""


def _last_times(turn: Turn, lead: Turn, ended_at: str) -> dict[str, Any]:
    """When a turn had its first token and output (those of `lead`, whose message it went out in) and its end, never
    before what they come after: a clock may have been set back, and some times are by the provider's."""
    began = max(turn.submitted_at, turn.started_at or "")
    ended = max(ended_at, began)
    firsts = {"first_token_at": lead.first_token_at, "first_output_at": lead.first_output_at}
    within = {
        name: min(max(first, began), ended) if first else None for name, first in firsts.items()
    }
    return {**within, "ended_at": ended}


def fields(turn: Turn) -> dict[str, Any]:
    """A turn as keyword arguments of an event's data."""
    return {name: getattr(turn, name) for name in Turn.__struct_fields__}
