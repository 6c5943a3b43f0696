"""Performs a plan on the primary thread, from its first request to the last."""

from __future__ import annotations

import asyncio

from infra.simulator.play import children, runs, status
from infra.simulator.play.calls import Call, Input
from infra.simulator.play.casting import Content
from infra.simulator.play.plan import Delegate, Failure, Plan, Request, RunWorkflow, UseTool
from infra.simulator.play.stage import INTERRUPTED, Stage
from infra.simulator.play.thread import Thread
from infra.simulator.reply import reply_to, text_of

Staff = list[tuple[Thread, Delegate]]  # children and what each is to do


class TurnDied(Exception):
    """A model request failed for good; the failure's `retry` says how the session goes on."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Prompt:
    """The newest message the model has seen: what the next reply answers."""

    def __init__(self) -> None:
        self.content: Content = []

    def reply(self) -> str:
        return reply_to(text_of(self.content))


class Turn:
    """One running period of a session."""

    def __init__(self, stage: Stage, prompt: Prompt) -> None:
        self.stage = stage
        self.session = stage.session
        self.prompt = prompt

    async def play(self, plan: Plan) -> None:
        """Performs all requests; messages that arrive meanwhile join at the next one.

        Raises Interrupted, or TurnDied after the events of a failure that is not retried.
        """
        await self._miss(plan)
        staff: Staff = []
        for index, request in enumerate(plan.requests):
            if not plan.unprocessed:
                self.take_messages()
            await self._within_budget()
            if plan.hold and index == max(0, len(plan.requests) - plan.hold):
                await self._held(plan.patience)
                self.take_messages()
            if plan.unprocessed and request.failure:
                raise self._failed(request.failure)
            await self._connect(request)
            await self._perform(request, staff if index else [])
            if index and staff:
                await self._delegated(staff)
                staff = []
            staff += self._hire(request)
            await self._run(request)

    def take_messages(self) -> None:
        """Marks the queued messages processed; the last of them is what gets answered."""
        while self.session.inbox:
            item = self.session.inbox.popleft()
            if item.type == "user.message":
                self.prompt.content = item.body["content"]
            elif item.type == "user.define_outcome":
                self.prompt.content = [{"type": "text", "text": item.body["description"]}]
                self.session.outcomes[item.body["outcome_id"]]["result"] = "running"
            self.session.process(item)

    async def _perform(self, request: Request, staff: Staff) -> None:
        def wake() -> None:
            for child, _ in staff:
                status.thread_runs(self.session, child)

        await self.stage.request(self.session.primary, request, wake)
        if request.failure is not None:
            await self._fail(request.failure)
        await self._settle()

    async def _fail(self, failure: Failure) -> None:
        if failure.retry != "retrying":
            raise self._failed(failure)
        status.error(self.session, failure.type, failure.message, failure.retry)
        if failure.reschedule:
            status.reschedule(self.session)
            await self.stage.pause(0.5, 2.0)
            status.run(self.session)

    def _failed(self, failure: Failure) -> TurnDied:
        self._say(failure)
        return TurnDied(failure)

    def _say(self, failure: Failure) -> None:
        said = failure.type, failure.message, failure.retry
        status.error(self.session, *said, server=failure.server)

    # -- MCP servers ---------------------------------------------------------------------------

    async def _miss(self, plan: Plan) -> None:
        """Says which servers the agent has to do without that the plan does not need."""
        needed = {server for request in plan.requests for server in _servers(request)}
        for server in self.session.agent["mcp_servers"]:
            failure = None if server["name"] in needed else await self._unconnected(server["name"])
            if failure is not None:
                self._say(failure)

    async def _connect(self, request: Request) -> None:
        """Raises TurnDied where a server that the request needs does not take the session."""
        for server in _servers(request):
            failure = await self._unconnected(server)
            if failure is not None:
                raise self._failed(failure)

    async def _unconnected(self, name: str) -> Failure | None:
        """Only of servers that the agent was made with anything is known."""
        session = self.session
        server = next((one for one in session.agent["mcp_servers"] if one["name"] == name), None)
        refusal = None if server is None else await session.birth.refusal(server)
        if refusal is None:
            return None
        return Failure(refusal.type, refusal.message, "exhausted", server=name)

    async def _run(self, request: Request) -> None:
        for step in request.steps:
            if isinstance(step, RunWorkflow):
                await runs.run(self.stage, step)

    # -- child threads -------------------------------------------------------------------------

    def _hire(self, request: Request) -> Staff:
        work = [step for step in request.steps if isinstance(step, Delegate)]
        return [(children.hire(self.stage, task), task) for task in work]

    async def _delegated(self, staff: Staff) -> None:
        """The primary thread rests while the children work; the session does not go idle."""
        session = self.session
        status.thread_rests(session, session.primary, {"type": "end_turn"})
        for child, task in staff:
            await children.work(self.stage, child, task)
        status.run(session)
        for child, task in staff:
            children.report(session, child, task)

    # -- waiting for the client ----------------------------------------------------------------

    async def _settle(self) -> None:
        """Waits until the client has answered all calls of the request, then gives their results.

        Answers that came before the idle need none; a partial answer makes the session run and go
        idle again with the rest.
        """
        mine = self.session.open_calls() + [item.call for item in self.session.answers if item.call]
        calls = list({call.id: call for call in mine}.values())
        idled = False
        while True:
            if self._take_answers():
                if idled:
                    status.run(self.session)
                idled = False
            left = [call.id for call in calls if call.state == "open"]
            if not left:
                break
            if not idled:
                self._wait_idle(left)
                idled = True
            await self._nudged()
        self._give_results(calls)

    def _wait_idle(self, left: list[str]) -> None:
        status.rest(self.session, status.waiting(left))
        if self.stage.dice.random() < 0.1:  # seen: the same wait announced twice
            self.session.emit_usage()
            status.idle(self.session, status.waiting(left))

    def _take_answers(self) -> list[Input]:
        taken = list(self.session.answers)
        self.session.answers.clear()
        for item in taken:
            self.session.process(item)
        return taken

    def _give_results(self, calls: list[Call]) -> None:
        for call in calls:
            _, tool = self.stage.tools.get(call.id, (None, None))
            if call.kind != "confirm" or call.answer is None or tool is None:
                continue
            body = call.answer.body
            if body["result"] == "allow":
                self.stage.tool_result(self.session.primary, call.id, tool.output)
            else:
                reason = body.get("deny_message") or "The user denied this call."
                self.stage.tool_result(self.session.primary, call.id, reason, failed=True)

    async def _nudged(self, timeout: float | None = None) -> None:
        """Waits until something came in. Raises Interrupted; returns early, or at the timeout."""
        self.stage.check()
        self.session.nudge.clear()
        try:
            async with asyncio.timeout(timeout):
                await self.session.nudge.wait()
        except TimeoutError:
            return
        self.stage.check()

    async def _within_budget(self) -> None:
        """At a spent budget the session rests until the budget is raised or removed."""
        session = self.session
        if not session.over_budget:
            return
        session.budget_stop = True
        status.rest(session, {"type": "budget_reached"})
        while session.over_budget:
            session.nudge.clear()
            await session.nudge.wait()
        session.budget_stop = False
        status.run(session)

    async def _held(self, patience: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + patience
        while not self.session.releases and loop.time() < until:
            await self._nudged(until - loop.time())
        self.session.releases = max(0, self.session.releases - 1)

    def interrupted(self) -> None:
        """Closes what is open: the span, running tools, calls that wait, children; then the turn."""
        session, stage = self.session, self.stage
        stage.end_span()
        stage.end_evaluation()
        where = {ident: thread for ident, (thread, _) in stage.tools.items()}
        for call in session.open_calls():
            where[call.id] = session.threads[call.thread_id]
            call.state = "closed"
        for ident, thread in where.items():
            stage.tool_result(thread, ident, INTERRUPTED, failed=True)
        for child in session.threads.values():
            if child is not session.primary and child.status == "running":
                status.thread_rests(session, child, {"type": "end_turn"})
        self._take_answers()
        while session.interrupts:
            session.process(session.interrupts.popleft())
        status.rest(session, {"type": "end_turn"})


def _servers(request: Request) -> list[str]:
    """The MCP servers whose tools a request uses."""
    return [step.server for step in request.steps if isinstance(step, UseTool) and step.server]
