"""One model request as it looks from outside: spans, previews, messages, tool calls, and the time they take.

Everything here can be stopped by an interrupt: a pause raises `Interrupted` when one is waiting.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from random import Random
from typing import Literal

from infra.simulator import stamps
from infra.simulator.play.calls import Call, Kind
from infra.simulator.play.plan import (
    Compact,
    Delegate,
    Evaluate,
    ReportUsage,
    Request,
    RunWorkflow,
    Say,
    Step,
    Think,
    UseCustomTool,
    UseTool,
)
from infra.simulator.play.session import Session
from infra.simulator.play.thread import Thread
from infra.simulator.play.usage import NO_TOKENS, Tokens

DELTA_SECONDS = 0.025  # at pace 1: forty fragments a second
AHEAD = 500_000  # microseconds a usage event inside a request runs ahead of the later ones
INTERRUPTED = "The call was stopped by an interrupt before it was done; it can be tried again."


VERDICTS = {
    "satisfied": "The result meets the rubric.",
    "needs_revision": "The result does not meet the rubric yet.",
    "max_iterations_reached": "The result does not meet the rubric, and no iteration is left.",
    "failed": "The rubric cannot be applied to the result.",
    "interrupted": "The evaluation was interrupted.",
}


class Interrupted(Exception):
    """An interrupt for the whole session is waiting; the turn must end now."""


class Stage:
    """One turn's view of its session. `answer` gives the reply to the newest prompt; `cut`, `cache`: see Plan."""

    def __init__(
        self,
        session: Session,
        dice: Random,
        pace: float,
        answer: Callable[[], str],
        *,
        cut: bool = False,
        cache: bool = False,
    ) -> None:
        self.session = session
        self.dice = dice
        self.pace = pace
        self.answer = answer
        self.cut = cut
        self._caches = cache
        self.tools: dict[str, tuple[Thread, UseTool]] = {}  # used, result not yet there
        self._span: tuple[Thread, str] | None = None
        self._evaluation: tuple[Evaluate, str] | None = None  # and the event that began it

    async def pause(self, low: float, high: float) -> None:
        """Waits between `low` and `high` seconds at pace 1, scaled; at pace 0 lets others run once.

        Raises Interrupted as soon as an interrupt for the session is waiting.
        """
        seconds = self.dice.uniform(low, high) * self.pace
        if seconds <= 0:
            await asyncio.sleep(0)
        else:
            await self._wait(seconds)
        self.check()

    async def _wait(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while not self._stopping() and loop.time() < until:
            self.session.nudge.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self.session.nudge.wait()
            except TimeoutError:
                return

    def check(self) -> None:
        if self._stopping():
            raise Interrupted

    def _stopping(self) -> bool:
        primary = self.session.primary.id
        return any(
            item.body.get("session_thread_id") in (None, primary)
            for item in self.session.interrupts
        )

    async def request(
        self, thread: Thread, request: Request, prelude: Callable[[], None] | None = None
    ) -> None:
        """Performs one model request on `thread`, then the built-in tools it called.

        `prelude` may make events right after the span has started. Open client calls are left in
        `session.calls`; delegations are the caller's business.
        """
        await self._provisioned("turn")
        await self.pause(0.3, 1.2)
        tokens = self._tokens(request)
        if not (request.steps and all(isinstance(step, Evaluate) for step in request.steps)):
            self._span = (thread, self.session.emit("span.model_request_start", thread=thread))
        if prelude:
            prelude()
        if self._span is not None:
            await self._delayed(self.session.birth.delays.until_token(tokens))
        for step in request.steps:
            await self._step(thread, step, request)
        self.end_span(tokens, failed=request.failure is not None)
        await self.run_tools(thread, request)

    def _tokens(self, request: Request) -> Tokens:
        if not self._caches or request.failure:
            return request.tokens
        return self.session.cache.request(request.tokens.fresh, request.tokens.output)

    async def _provisioned(self, whom: Literal["tools", "turn"]) -> None:
        birth = self.session.birth
        await self._delayed(birth.delays.until_there(self.session.created_at, birth.now(), whom))

    async def _delayed(self, seconds: float) -> None:
        """Like `pause`, whatever the pace."""
        if seconds > 0:
            await self._wait(seconds)
            self.check()

    def end_span(self, tokens: Tokens = NO_TOKENS, *, failed: bool = False) -> None:
        """Closes the open span, if any, and counts its tokens."""
        if self._span is None:
            return
        thread, start = self._span
        self._span = None
        self.session.count(thread, tokens)
        fields = {"is_error": failed, "model_request_start_id": start, "model_usage": tokens.span()}
        self.session.emit("span.model_request_end", fields, thread)

    async def run_tools(self, thread: Thread, request: Request) -> None:
        """Gives the result of each built-in tool call that needs nobody's leave."""
        await self._delayed(request.runs)
        if self.tools:
            await self._provisioned("tools")
        first = True
        for ident, (_, tool) in list(self.tools.items()):
            if self.session.calls.get(ident):
                continue  # asked for; runs when it is allowed
            if not request.burst:
                await self.pause(0.2, 2.0)
            hold = int(request.swap and first)
            self.tool_result(thread, ident, tool.output, failed=tool.failed, hold=hold)
            first = False

    def tool_result(
        self, thread: Thread, ident: str, text: str, *, failed: bool = False, hold: int = 0
    ) -> None:
        """Gives one tool call its result and closes it. `hold`: see `Session.emit`."""
        content = [{"type": "text", "text": text}]
        _, tool = self.tools.pop(ident, (None, None))
        kind = tool.result if tool else "agent.tool_result"
        call = f"{kind.removeprefix('agent.').removesuffix('_result')}_use_id"
        fields = {call: ident, "content": content, "is_error": failed}
        self.session.emit(kind, fields, thread, hold=hold)

    async def _step(self, thread: Thread, step: Step, request: Request) -> None:
        match step:
            case Think():
                await self._think(thread, request.burst)
            case Say():
                await self._say(
                    thread, step.text if step.text is not None else self.answer(), request.burst
                )
            case UseTool():
                self._use(thread, step)
            case UseCustomTool():
                ident = self.session.emit(
                    "agent.custom_tool_use", {"name": step.name, "input": step.input}, thread
                )
                self.open_call(ident, "custom", thread)
            case ReportUsage():
                self.session.emit_usage(ahead=AHEAD)
            case Evaluate():
                await self._evaluate(step, request.tokens)
            case Compact():
                self.session.emit("agent.thread_context_compacted", None, thread)
            case Delegate() | RunWorkflow():
                pass  # performed by the turn, after the request

    async def _think(self, thread: Thread, burst: bool) -> None:
        ident = self.session.made.event()
        self._announce(thread, "agent.thinking", ident)
        if not burst and self.pace:
            await self.pause(0.3, 2.0)
        self.session.emit("agent.thinking", None, thread, ident=ident)

    async def _say(self, thread: Thread, text: str, burst: bool) -> None:
        """A message; listeners that asked see it being written, some of them only its beginning."""
        ident = self.session.made.event()
        parts = text.split("\n") if self.dice.random() < 0.25 else [text]
        blocks = [part for part in parts if part]
        shown = self.dice.random() if self.dice.random() < 0.1 else 1.0
        self._announce(thread, "agent.message", ident)
        for index, block in enumerate(blocks):
            await self._write(thread, ident, index, block[: int(len(block) * shown)], burst)
            if shown < 1:
                break
        content = [{"type": "text", "text": block} for block in blocks]
        self.session.emit("agent.message", {"content": content}, thread, ident=ident)

    async def _write(self, thread: Thread, ident: str, index: int, text: str, burst: bool) -> None:
        size = self.dice.randrange(8, 32)
        live = self.pace > 0 and not burst
        if not (live or thread.channel.wants("agent.message")):
            return
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        for piece in halved(text) if self.cut else pieces:
            if live:
                await self.pause(0.5 * DELTA_SECONDS, 1.5 * DELTA_SECONDS)
            content = {"type": "text", "text": piece}
            delta = {"type": "content_delta", "index": index, "content": content}
            self._preview(
                thread, "agent.message", {"type": "event_delta", "event_id": ident, "delta": delta}
            )

    def _announce(self, thread: Thread, kind: str, ident: str) -> None:
        self._preview(thread, kind, {"type": "event_start", "event": {"type": kind, "id": ident}})

    def _preview(self, thread: Thread, kind: str, body: dict[str, object]) -> None:
        if thread.channel.wants(kind):
            # Not msgspec, which writes no half of a character.
            text = json.dumps(body, ensure_ascii=self.cut, separators=(",", ":"))
            thread.channel.preview(kind, text.encode())

    def _use(self, thread: Thread, tool: UseTool) -> None:
        ask = tool.ask or _asks(thread, tool.name)
        fields: dict[str, object] = {"name": tool.name, "input": tool.input}
        if tool.server:
            fields["mcp_server_name"] = tool.server
        if tool.says == "all":
            fields["evaluated_permission"] = "ask" if ask else "allow"
        if tool.says != "nothing":
            fields["evaluation"] = {"type": "always_ask" if ask else "always_allow"}
        # Behind the end of the span, the thread's idle, the usage and the session's idle.
        ident = self.session.emit(tool.type, fields, thread, hold=4 if tool.ahead else 0)
        self.tools[ident] = (thread, tool)
        if ask:
            self.open_call(ident, "confirm", thread)
        elif self.session.birth.environment["config"]["type"] == "self_hosted":
            self.open_call(ident, "tool", thread)

    def open_call(self, ident: str, kind: Kind, thread: Thread) -> None:
        self.session.calls[ident] = Call(ident, kind, thread.id)

    async def _evaluate(self, step: Evaluate, tokens: Tokens) -> None:
        session, base = self.session, {"outcome_id": step.outcome_id, "iteration": step.iteration}
        session.outcomes[step.outcome_id].update(result="evaluating", iteration=step.iteration)
        self._evaluation = (step, session.emit("span.outcome_evaluation_start", base))
        await self.pause(1.0, 3.0)
        session.emit("span.outcome_evaluation_ongoing", base)
        await self.pause(1.0, 3.0)
        session.count(session.primary, tokens)
        self.end_evaluation(step.result)

    def end_evaluation(self, result: str = "interrupted") -> None:
        """The verdict of the evaluation that is open, if any. Its usage was all zeros wherever it was seen."""
        if self._evaluation is None:
            return
        (step, start), self._evaluation = self._evaluation, None
        outcome = self.session.outcomes[step.outcome_id]
        verdict = VERDICTS[result]
        end = {
            "outcome_id": step.outcome_id,
            "iteration": step.iteration,
            "outcome_evaluation_start_id": start,
            "result": result,
            "explanation": verdict,
            "usage": NO_TOKENS.span(),
        }
        self.session.emit("span.outcome_evaluation_end", end)
        outcome.update(result=result, explanation=verdict)
        outcome["completed_at"] = stamps.written(self.session.updated_at)


def halved(text: str) -> list[str]:
    """The text cut inside of every character that JSON writes as two halves (a surrogate pair)."""
    units = text.encode("utf-16-be")
    pairs = (
        units[at : at + 2].decode("utf-16-be", "surrogatepass") for at in range(0, len(units), 2)
    )
    pieces = [""]
    for unit in pairs:
        pieces[-1] += unit
        if "\ud800" <= unit <= "\udbff":
            pieces.append("")
    return [piece for piece in pieces if piece]


def _asks(thread: Thread, tool: str) -> bool:
    """Whether the agent's own configuration wants this tool confirmed."""
    for toolset in thread.agent["tools"]:
        if toolset["type"] != "agent_toolset_20260401":
            continue
        configs = {config["name"]: config for config in toolset["configs"]}
        config = configs.get(tool, toolset["default_config"])
        return bool(config["permission_policy"]["type"] == "always_ask")
    return False
