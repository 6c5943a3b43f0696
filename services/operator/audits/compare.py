"""Compares the evidence of one session. Pure: evidence in, findings out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from services.operator.audits.evidence import STREAM_ONLY, Asked, Head, Listed, ProviderLog, Row
from services.operator.audits.finding import Finding, Kind
from shared.moment import parse
from shared.session.events import TURN_ENDS
from shared.session.provider import TELLING

TURN = "turn:"


@dataclass(frozen=True, slots=True)
class Patience:
    """What is too young to be missed at `now`: events by `grace`, turns and inputs by `stuck`."""

    now: datetime
    grace: timedelta
    stuck: timedelta

    def waits(self, at: str, patience: timedelta) -> bool:
        """Whether what came `at` then may still be under way; a time that is none is old."""
        try:
            return self.now - parse(at) < patience
        except ValueError:
            return False


class Comparison:
    """One session. `logs` are the lists of its provider sessions, `bodies` counts different bodies by seq."""

    def __init__(
        self,
        head: Head,
        rows: Sequence[Row],
        bodies: Mapping[int, int],
        logs: Sequence[ProviderLog],
        asked: Sequence[Asked],
        patience: Patience,
    ) -> None:
        self._head = head
        self._rows = rows
        self._bodies = bodies
        self._logs = logs
        self._asked = asked
        self._patience = patience
        self._by_id = {row.provider_event_id: row for row in rows if row.provider_event_id}

    def findings(self) -> Iterator[Finding]:
        """All there is to find, archive first."""
        gaps = list(self._numbers())
        unrecorded = [finding for log in self._logs for finding in self._missing(log)]
        if len(unrecorded) <= sum((gap.last_seq or 0) - (gap.seq or 0) + 1 for gap in gaps):
            # They were given numbers, as far as can be told: what the gaps hold is looked for on the log.
            unrecorded = []
        yield from [*gaps, *unrecorded]
        yield from self._repeats()
        for log in self._logs:
            yield from self._other(log)
            yield from self._orders(log)
        yield from self._foreign()
        yield from self._messages()
        yield from self._inputs()
        yield from self._turns()

    def _numbers(self) -> Iterator[Finding]:
        known = [0, *sorted({row.seq for row in self._rows})]
        end = max(self._head.last_seq, known[-1]) + 1
        for before, after in pairwise([*known, end]):
            if after - before > 1:
                words = f"events {before + 1} to {after - 1} are not in ClickHouse"
                yield self._finding("missing_in_archive", words, seq=before + 1, last_seq=after - 1)

    def _repeats(self) -> Iterator[Finding]:
        for seq, bodies in sorted(self._bodies.items()):
            words = f"{bodies} different events under one seq"
            yield self._finding("two_bodies_for_a_seq", words, seq=seq)
        seen: dict[str, int] = {}
        for row in self._rows:
            if row.provider_event_id in seen:
                words = f"the event of seq {seen[row.provider_event_id]} again"
                yield self._finding("event_twice", words, row)
            elif row.provider_event_id:
                seen[row.provider_event_id] = row.seq

    def _missing(self, log: ProviderLog) -> Iterator[Finding]:
        told: set[str] = set()
        for event in (event for events in log.threads.values() for event in events):
            if event.id in told:
                continue  # children's events are in the primary list too
            told.add(event.id)
            row = self._by_id.get(event.id)
            if row is None and not self._too_young(event):
                words = f"{event.type} of {event.processed_at} is listed by the provider only"
                yield self._finding(
                    "only_at_provider",
                    words,
                    provider_event_id=event.id,
                    provider_session_id=log.session,
                )

    def _other(self, log: ProviderLog) -> Iterator[Finding]:
        listed = {event.id: event for events in log.threads.values() for event in events}
        for event in listed.values():
            row = self._by_id.get(event.id)
            if row is not None and row.digest != event.digest:
                yield self._finding("other_json", f"{event.type} differs from the list", row)

    def _too_young(self, event: Listed) -> bool:
        """Whether a listed event may be missing yet: queued ones are recorded once they are processed."""
        if event.processed_at is None:
            return True
        return self._patience.waits(event.processed_at, self._patience.grace)

    def _orders(self, log: ProviderLog) -> Iterator[Finding]:
        """A thread's events are numbered in the order of its list, but for those that came after an idle was
        recorded: late ones come when the session is looked at next."""
        idles = [row.seq for row in self._rows if row.type == "session.status_idle"]
        for thread, events in log.threads.items():
            rows = [self._by_id[event.id] for event in events if event.id in self._by_id]
            mine = [row for row in rows if row.thread_id == thread]
            for earlier, later in pairwise(mine):
                late = any(later.seq <= idle < earlier.seq for idle in idles)
                if later.seq < earlier.seq and not late:
                    words = f"listed after the event of seq {earlier.seq}"
                    yield self._finding("wrong_order", words, later)

    def _foreign(self) -> Iterator[Finding]:
        if any(log.gone for log in self._logs) or not self._logs:
            return
        listed = {
            event.id for log in self._logs for events in log.threads.values() for event in events
        }
        for row in self._rows:
            foreign = row.provider_event_id and row.provider_event_id not in listed
            if foreign and row.type not in STREAM_ONLY:
                words = f"no list of the provider has this {row.type}"
                yield self._finding("unknown_to_provider", words, row)

    def _messages(self) -> Iterator[Finding]:
        attempts: dict[str, int] = defaultdict(int)
        for row in self._rows:
            attempts[row.turn_id] = max(attempts[row.turn_id], row.attempts)
        sent: Counter[str] = Counter()
        for row in self._rows:
            if row.type not in TELLING or row.thread_id:
                continue
            if not row.turn_id:
                yield self._finding(
                    "message_of_no_turn", "the agent was told what no turn says", row
                )
            else:
                sent[row.turn_id] += 1
                if sent[row.turn_id] > max(1, attempts[row.turn_id]):
                    words = f"message {sent[row.turn_id]} in {attempts[row.turn_id]} attempts"
                    yield self._finding("message_twice", words, row)

    def _inputs(self) -> Iterator[Finding]:
        head = self._head
        taken = sum(asked.position <= head.position for asked in self._asked)
        if (len(self._asked), taken) != (head.filed, head.taken):
            words = (
                f"{len(self._asked)} inputs in the inbox, {taken} of them taken in; "
                f"the head row says {head.filed} and {head.taken}"
            )
            yield self._finding("wrong_count", words)
        for asked in self._asked:
            untaken = asked.position > head.position
            if untaken and not self._patience.waits(asked.at, self._patience.stuck):
                words = f"{asked.input_id} of {asked.at} is filed and not taken in"
                yield self._finding("input_not_taken", words)

    def _turns(self) -> Iterator[Finding]:
        ends = Counter(row.turn_id for row in self._rows if row.type in TURN_ENDS)
        last = {row.turn_id: row for row in self._rows if row.type.startswith("turn.")}
        for turn, count in ends.items():
            if count > 1:
                yield self._finding("turn_ended_twice", f"{count} ends", turn_id=turn)
        for asked in self._asked:
            turn = asked.input_id.removeprefix(TURN)
            if not asked.input_id.startswith(TURN) or asked.position > self._head.position:
                continue
            if turn not in last:
                words = "taken in, and no event tells of it"
                yield self._finding("turn_lost", words, turn_id=turn)
        for turn, row in last.items():
            if turn not in ends and row.type != "turn.requires_action":
                began = next(r.at for r in self._rows if r.turn_id == turn)
                if not self._patience.waits(began, self._patience.stuck):
                    words = f"accepted at {began}, stands at {row.type}"
                    yield self._finding("turn_never_ended", words, turn_id=turn)

    def _finding(
        self,
        kind: Kind,
        detail: str,
        row: Row | None = None,
        *,
        turn_id: str = "",
        seq: int | None = None,
        last_seq: int | None = None,
        provider_event_id: str = "",
        provider_session_id: str = "",
    ) -> Finding:
        return Finding(
            kind=kind,
            tenant_id=self._head.tenant_id,
            session_id=self._head.session_id,
            detail=detail,
            turn_id=row.turn_id if row else turn_id,
            seq=row.seq if row else seq,
            last_seq=last_seq,
            provider_event_id=row.provider_event_id if row else provider_event_id,
            provider_session_id=provider_session_id,
        )
