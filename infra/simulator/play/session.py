"""One provider session: its state, its threads, and the events that tell of it.

`emit` is the only way to make an event: it stamps, encodes once, files in the thread's log and
publishes to the thread's listeners. Who may send what is decided in `inbox`, what the agent does in
`driver`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from infra.simulator import stamps
from infra.simulator.chance import Ids, dice
from infra.simulator.connections import Refusal
from infra.simulator.play.bill import Bill
from infra.simulator.play.cache import PromptCache
from infra.simulator.play.calls import Call, Input
from infra.simulator.play.delays import NONE, Delays
from infra.simulator.play.log import Entry
from infra.simulator.play.thread import Thread
from infra.simulator.play.usage import CENT, NANODOLLAR, Tokens, Usage

JSON = dict[str, Any]
encode = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Birth:
    """All that is fixed when a session is created."""

    id: str
    number: int
    seed: int
    agent: JSON
    environment: JSON
    metadata: dict[str, str]
    title: str | None
    budget_cents: int | None
    resources: list[JSON]
    vault_ids: list[str]
    refusal: Callable[
        [JSON], Awaitable[Refusal | None]
    ]  # why an MCP server does not take the session now
    now: stamps.Now
    status_lag: int  # microseconds by which retrieve runs behind the events
    delays: Delays = NONE


class Session:
    """One provider session. Not thread-safe; lives on one event loop."""

    def __init__(self, birth: Birth) -> None:
        key = (birth.seed, birth.number)
        self.birth = birth
        self.id = birth.id
        self.made = Ids(
            "made", *key
        )  # ids of what the agent does: not moved by the client's timing
        self.taken = Ids("taken", *key)  # ids of what the client sends
        self.dice = dice("session", *key)
        self.stamps = stamps.Stamps(birth.now, *key)
        self.created_at = self.updated_at = self.stamps.next()
        self.agent = birth.agent
        self.metadata = dict(birth.metadata)
        self.title = birth.title
        self.budget = birth.budget_cents
        self.archived_at: int | None = None
        self.usage = Usage()
        self.cache = PromptCache(birth.agent["model"]["id"], birth.agent["system"] or "")
        self.bill = Bill()
        self.outcomes: dict[str, JSON] = {}
        self.status = self._status_before = "idle"
        self._status_since = self._running_since = 0
        self.primary = Thread(
            self.made.new("sthr"), self.id, without_roster(birth.agent), self.created_at, None
        )
        self.threads = {self.primary.id: self.primary}
        self.inbox: deque[Input] = deque()  # messages, outcomes: wait for a model request
        self.answers: deque[Input] = deque()  # tool answers not yet taken up
        self.interrupts: deque[Input] = deque()
        self.received: list[Input] = []  # all of them, for the simulator's own log
        self.calls: dict[str, Call] = {}
        self.stream_only: list[bytes] = []  # events that listeners saw and the list does not hold
        self.budget_stop = False  # idle because the budget is spent
        self.inert = False
        self.late_events = 0  # to be made after the next idle
        self.turns = 0
        self.open_runs: list[tuple[str, JSON]] = []  # runs that end after the next idle
        self.releases = 0
        self.nudge = asyncio.Event()  # something came in that a waiting driver may want
        self.driver: asyncio.Task[None] | None = None

    # -- events ------------------------------------------------------------------------------

    def emit(
        self, kind: str, fields: JSON | None = None, thread: Thread | None = None,
        *, ident: str | None = None, hold: int = 0,
    ) -> str:  # fmt: skip
        """Makes one processed event on a thread (the primary by default) and returns its id.

        `hold` lets it reach the stream after so many later events of the thread.
        """
        where = thread or self.primary
        at = self.stamps.next()
        ident = ident or self.made.event()
        body = {"id": ident, "type": kind, "processed_at": stamps.written(at), **(fields or {})}
        entry = Entry(ident, kind, at, encode(body))
        where.log.append(entry)
        where.channel.publish(entry.data, hold=hold)
        self.updated_at = where.updated_at = at
        return ident

    def queue(self, item: Input) -> None:
        """Files an accepted event as pending; some are shown to listeners before they are processed."""
        data = encode(item.body)
        self.primary.log.queue(Entry(item.id, item.type, None, data))
        if item.echo == "early":
            self.primary.channel.publish(data)

    def process(self, item: Input) -> None:
        """Marks an accepted event processed: it takes its place in the list.

        On the stream it appears with `processed_at`, or without it and never again.
        """
        at = self.stamps.next()
        data = encode({**item.body, "processed_at": stamps.written(at), **item.extra})
        self.primary.log.append(Entry(item.id, item.type, at, data))
        self.primary.channel.publish(encode(item.body) if item.echo == "bare" else data)
        self.updated_at = at

    def publish_only(self, kind: str) -> None:
        """An event on the stream that the list will not hold."""
        at = self.stamps.next()
        body = {"id": self.made.event(), "type": kind, "processed_at": stamps.written(at)}
        self.stream_only.append(encode(body))
        self.primary.channel.publish(self.stream_only[-1])

    def emit_usage(self, *, ahead: int = 0, hold: int = 0) -> None:
        """The cumulative usage event; `budget` is there only when one is set."""
        fields: JSON = {"usage": self._usage(ahead)}
        if self.budget is not None:
            fields["budget"] = self.budget_json()
        self.emit("session.usage", fields, hold=hold)

    def count(self, thread: Thread, tokens: Tokens) -> None:
        """One model request of a thread: its tokens, and what they cost."""
        before = self.usage.nanodollars
        self.usage.add(thread.model, tokens)
        thread.usage.add(thread.model, tokens)
        parts = (self.usage.nanodollars - before) * NANODOLLAR
        now = self.birth.now()
        self.bill.add(now, "tokens", thread.model, parts)
        self.bill.use(now, tokens)

    # -- status ------------------------------------------------------------------------------

    def set_status(self, status: str) -> None:
        """Change the status; a stretch of `running` that ends is counted, and billed."""
        now = self.birth.now()
        if self.status == "running":
            self.usage.active += now - self._running_since
            self.bill.add(now, "session_usage", "", now - self._running_since)
        if status == "running":
            self._running_since = now
        if status != self.status:
            self._status_before, self.status, self._status_since = self.status, status, now

    @property
    def seen_status(self) -> str:
        """The status as retrieve shows it: behind the events by the configured lag, both ways."""
        lagging = self.birth.now() - self._status_since < self.birth.status_lag
        return self._status_before if lagging else self.status

    def start_running(self) -> None:
        """Running at once, without lag: a session created with initial events."""
        self.set_status("running")
        self._status_before = "running"

    @property
    def over(self) -> bool:
        return self.status == "terminated" or self.archived_at is not None

    @property
    def over_budget(self) -> bool:
        return self.budget is not None and self.spent >= self.budget * CENT

    @property
    def spent(self) -> int:
        """What it has cost by now, in parts of a cent: exact, unlike what it shows."""
        return self.usage.spent(self._running())

    def open_calls(self) -> list[Call]:
        return [call for call in self.calls.values() if call.state == "open"]

    # -- shown -------------------------------------------------------------------------------

    def as_json(self) -> JSON:
        """The session as the API shows it."""
        usage = self._usage()
        seconds = (self.updated_at - self.created_at) / 1e6
        return {
            "id": self.id,
            "type": "session",
            "status": self.seen_status,
            "agent": self.agent,
            "environment_id": self.birth.environment["id"],
            "title": self.title,
            "metadata": self.metadata,
            "budget": self.budget_json(),
            "resources": self.birth.resources,
            "vault_ids": self.birth.vault_ids,
            "deployment_id": None,
            "outcome_evaluations": list(self.outcomes.values()),
            "usage": usage,
            "stats": {
                "active_seconds": usage["active_seconds"],
                "duration_seconds": round(seconds, 3),
            },
            "created_at": stamps.written(self.created_at),
            "updated_at": stamps.written(self.updated_at),
            "archived_at": None if self.archived_at is None else stamps.written(self.archived_at),
        }

    def budget_json(self) -> JSON | None:
        if self.budget is None:
            return None
        return {"type": "limit", "max_list_cost": {"amount": str(self.budget), "currency": "USD"}}

    def _usage(self, ahead: int = 0) -> JSON:
        return self.usage.of_session(self._running() + ahead)

    def _running(self) -> int:
        """Microseconds of running time that `usage` does not hold yet."""
        return self.birth.now() - self._running_since if self.status == "running" else 0


def without_roster(agent: JSON) -> JSON:
    """The agent as threads show it: without the list of agents it may call."""
    return {key: value for key, value in agent.items() if key != "multiagent"}
