"""One provider session in memory: its log, what it was sent, and the script it plays.

Interrupts are counted apart in ids, and costs by replies: an interrupt more or less leaves everything else the
same, byte for byte but for times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Generator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from services.agent_worker.ports import ProviderFailure
from shared.moment import rfc3339
from shared.session.inputs import ProviderEvent
from shared.session.outcome import OUTCOME, outcome_in
from shared.session.provider import TELLING, UNAUTHENTICATED

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
Script = Generator[None, None, None]
CALL = {"name": "bash", "input": {"command": "ls"}}
ASKING = {"kind": "agent.tool_use", **CALL, "evaluated_permission": "ask"}
CUSTOM = {"kind": "agent.custom_tool_use", **CALL}


class Conversation:
    """`messages` are the contents received, `told` those and the outcomes, `log` all events in order. A script
    yields where it waits.

    `fate`: what befalls the work on a message instead of an answer, see `_play`. `vanished`: deleted behind our
    back, with whatever nobody had read.
    """

    def __init__(self, id: str, mark: str, clock: Callable[[], datetime] | None = None) -> None:
        self.id = id
        self._clock = clock
        self.mark = mark
        self.closed = False
        self.erased = False
        self.vanished = False
        self._deaf = False
        self._at_budget = False
        self.messages: list[list[Any]] = []
        self.told: list[list[Any]] = []
        self.log: list[ProviderEvent] = []
        self.previews: set[Callable[[bytes], None]] = set()
        self.moved = asyncio.Event()
        self._waiting: dict[str, str] = {}
        self._answered: set[str] = set()
        self._interrupts = 0
        self._replies = 0
        self._script: Script | None = None
        self._queued: list[list[Any]] = []

    # ---- what is asked of it ----------------------------------------------------------------------------------

    def has_unrecorded(self, content: list[Any], recorded: Collection[str]) -> bool:
        """Whether this message is among those that came after the newest recorded one."""
        if content in self._queued:
            return True
        for event in reversed(self.log):
            if event.type not in TELLING:
                continue
            if event.id in recorded:
                return False
            if _told(_body(event)) == content:
                return True
        return False

    def say(self, content: list[Any], fate: str = "") -> None:
        """A user message; one that comes while something is played waits for the next request to the model. Raises
        ProviderFailure while answers are awaited."""
        if self._at_budget:
            raise ProviderFailure("budget_reached", "400: the budget is used up", final=True)
        if self._waiting:
            calls = ", ".join(self._waiting)
            raise ProviderFailure("invalid_request_error", f"waiting on responses to {calls}")
        self.told.append(content)
        if outcome_in(content) is None:
            self.messages.append(content)
        if self._script is not None:
            self._queued.append(content)
            self._move()
        else:
            self._begin(content, fate)

    def _begin(self, content: list[Any], fate: str = "") -> None:
        text = "\n".join(block.get("text", block.get("description", "")) for block in content)
        self._script = self._play(content, text, fate)
        self._go_on()

    def answer(self, call: str, kind: str, body: dict[str, Any]) -> None:
        """An answer. One that was given is left alone; raises ProviderFailure for a call that never was."""
        if call in self._answered:
            return
        if call not in self._waiting:
            raise ProviderFailure("invalid_request_error", f"no call {call} waits", final=True)
        self.emit(kind, **body)
        del self._waiting[call]
        self._answered.add(call)
        if self._waiting:
            self._idle("requires_action", event_ids=list(self._waiting))
        else:
            self._go_on()

    def interrupt(self) -> None:
        """Ends what is played; only noted when nothing is, and not even that by a session that hangs."""
        if self._deaf or self._at_budget:
            return
        script, self._script = self._script, None
        for call in self._waiting:
            self.emit("agent.tool_result", tool_use_id=call, is_error=True)
        self._answered |= self._waiting.keys()
        self._waiting.clear()
        self._interrupts += 1
        self.emit("user.interrupt")
        if script is not None:
            script.close()
            self._idle("end_turn")
        if self._queued:
            self._begin(self._queued.pop(0))

    def exhaust(self) -> None:
        """What is played dies, and what is queued with it."""
        script, self._script = self._script, None
        if script is not None:
            script.close()
        self._give_up("exhausted")
        for content in self._queued:
            self.emit("user.message", processed=False, content=content)
        self._queued.clear()
        self._idle("end_turn")

    def raise_budget(self, cents: int) -> None:
        """What stopped at the budget goes on. Raises ProviderFailure for a budget that is used up."""
        if cents <= 3 * self._replies:
            raise ProviderFailure("budget_not_raised", "400: used up", final=True)
        if self._at_budget:
            self._at_budget = False
            self._go_on()

    def release(self) -> None:
        """Lets a held script go on."""
        self._go_on()

    def close(self, *, erase: bool) -> None:
        """Takes nothing any more. Raises ProviderFailure while it works; waiting for answers is no work."""
        if self._script is not None and not (self._waiting or self._at_budget):
            raise ProviderFailure("invalid_request_error", "the session is running")
        if not self.closed:
            self.emit("session.status_terminated")
        self.closed = True
        if erase and not self.erased:
            self.emit("session.deleted")
            self.erased = True
        self._move()

    def vanish(self) -> None:
        """It was deleted by somebody else."""
        self.vanished = True
        self._end("session.deleted")

    # ---- what it does -----------------------------------------------------------------------------------------

    def emit(
        self, kind: str, *, thread: str | None = None, processed: bool = True, **body: Any
    ) -> str:
        """Put an event into the log; answers its id."""
        count = f"i{self._interrupts}" if kind == "user.interrupt" else self._next_count()
        id = f"sevt_{self.id}_{count}"
        began = self._clock() if self._clock else BEGINNING + timedelta(milliseconds=len(self.log))
        at = rfc3339(began + timedelta(milliseconds=1))
        when = {"processed_at": at} if processed else {}
        raw = msgspec.json.encode({"id": id, "type": kind, **when, **body})
        self.log.append(ProviderEvent(id=id, type=kind, at=at, raw=raw, thread_id=thread))
        self._move()
        return id

    def _next_count(self) -> int:
        return len(self.log) + 1 - self._interrupts

    def _move(self) -> None:
        moved, self.moved = self.moved, asyncio.Event()
        moved.set()

    def _go_on(self) -> None:
        if self._script is not None and next(self._script, self) is self:
            self._script = None

    def _idle(self, reason: str, **more: Any) -> None:
        self.emit("session.usage", usage={"list_cost": {"amount": str(3 * self._replies)}})
        self.emit("session.status_idle", stop_reason={"type": reason, **more})

    def _take_queued(self) -> None:
        for content in self._queued:
            self.emit("user.message", content=content)
        self._queued.clear()

    def _reply(self, text: str) -> None:
        self._take_queued()
        start = self.emit("span.model_request_start")
        self._replies += 1
        self._preview(f"sevt_{self.id}_{self._next_count()}", text)
        self.emit("agent.message", content=[{"type": "text", "text": text}])
        usage = {"input_tokens": 10, "output_tokens": 5}
        self.emit("span.model_request_end", model_request_start_id=start, model_usage=usage)

    def _preview(self, id: str, text: str) -> None:
        start = {"type": "event_start", "event": {"type": "agent.message", "id": id}}
        content = {"type": "text", "text": text}
        delta = {"type": "content_delta", "index": 0, "content": content}
        for data in (start, {"type": "event_delta", "event_id": id, "delta": delta}):
            for take in tuple(self.previews):
                take(msgspec.json.encode(data))

    def _play(self, content: list[Any], text: str, fate: str) -> Script:
        self.emit("session.status_running")
        outcome = outcome_in(content)
        if outcome is None:
            self.emit("user.message", content=content)
        else:
            self.emit(
                "user.define_outcome", **_fields(outcome), outcome_id=f"outc_{self._next_count()}"
            )
        if fate == "deaf":
            self._deaf = True
            yield
        elif fate == "budget":
            self._at_budget = True
            self._idle("budget_reached")
            yield
            self.emit("session.status_running")
        elif fate:
            FATES[fate](self)
            return
        if "script: confirm_two" in text:
            yield from self._wait(ASKING, ASKING)
        elif "script: confirm" in text:
            yield from self._wait(ASKING)
        elif "script: custom_tool" in text:
            yield from self._wait(CUSTOM)
        elif "script: ask_both" in text:
            yield from self._wait(ASKING, CUSTOM)
        elif "script: own_tool" in text:
            yield from self._wait({**CUSTOM, "name": "clock"})
        elif "script: tools" in text:
            call = self.emit("agent.tool_use", name="bash", input={}, evaluated_permission="allow")
            self.emit("agent.tool_result", tool_use_id=call)
        elif "script: long_tool" in text:
            yield from self._run()
            self._take_queued()
        elif "script: threads" in text:
            self._child(text)
        if "hold" in text:
            yield
        self._reply(text)
        if outcome is not None:
            self.emit(
                "span.outcome_evaluation_end", iteration=0, result="satisfied", explanation="good"
            )
        self._idle("refusal" if "script: refusal" in text else "end_turn")
        if "late=1" in text:
            self.emit("session.usage", usage={"list_cost": {"amount": str(3 * self._replies)}})

    def _run(self) -> Script:
        """A tool that takes until it is released."""
        call = self.emit("agent.tool_use", name="bash", input={}, evaluated_permission="allow")
        done = False
        try:
            yield
            done = True
        finally:
            self.emit("agent.tool_result", tool_use_id=call, is_error=not done)

    def _wait(self, *calls: dict[str, Any]) -> Script:
        for call in calls:
            self._waiting[self.emit(**call)] = call["kind"]
        confirmed = [id for id, kind in self._waiting.items() if kind == ASKING["kind"]]
        self._idle("requires_action", event_ids=list(self._waiting))
        yield
        self.emit("session.status_running")
        for id in confirmed:
            self.emit("agent.tool_result", tool_use_id=id)

    def _give_up(self, status: str) -> None:
        error = {"type": "model_error", "message": "so it goes", "retry_status": {"type": status}}
        self.emit("session.error", error=error)

    def _exhaust(self) -> None:
        self._give_up("exhausted")
        self._idle("end_turn")

    def _refuse(self) -> None:
        """An MCP server takes no credential, and the work can't go on without it."""
        error = {"type": UNAUTHENTICATED, "mcp_server_name": "github", "message": "so it goes"}
        self.emit("session.error", error={**error, "retry_status": {"type": "exhausted"}})
        self._idle("retries_exhausted")

    def _terminate(self) -> None:
        self._give_up("terminal")
        self._end("session.status_terminated")

    def _end(self, kind: str) -> None:
        """It is over, and nothing was asked of us. What was deleted is gone with its list."""
        self._script, self.closed = None, True
        self._queued.clear()
        self.erased = kind == "session.deleted"
        self._waiting.clear()
        self.emit(kind)

    def _child(self, text: str) -> None:
        thread = f"sthr_{self.id}_{self._next_count()}"
        self.emit("session.thread_created", session_thread_id=thread)
        self.emit("agent.message", thread=thread, content=[{"type": "text", "text": text}])


FATES: dict[str, Callable[[Conversation], None]] = {
    "exhausted": Conversation._exhaust,
    "retries_exhausted": lambda session: session._idle("retries_exhausted"),
    "unconnected": Conversation._refuse,
    "unheard_of": lambda session: session._idle("a_reason_of_tomorrow"),
    "terminal": Conversation._terminate,
    "deleted": Conversation.vanish,
}


def _told(body: dict[str, Any]) -> list[Any]:
    """What an event told the agent, as a turn's content."""
    if body["type"] == "user.message":
        content: list[Any] = body["content"]
        return content
    told = {
        name: body[name] for name in ("description", "rubric", "max_iterations") if name in body
    }
    return [{"type": OUTCOME, **told}]


def _fields(outcome: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in outcome.items() if name != "type"}


def _body(event: ProviderEvent) -> dict[str, Any]:
    return msgspec.json.decode(event.raw, type=dict[str, Any])
