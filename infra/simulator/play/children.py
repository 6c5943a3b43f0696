"""Child threads: how one works, and what of it shows on the primary thread.

The primary thread shows that the child exists, runs and rests, the messages between the two, and the
calls that wait for the client: those under the same id as on the child, with a later time. All else
is on the child's own log. Messages between threads have one id on each side.
"""

from __future__ import annotations

from typing import Any

from infra.simulator.play import status
from infra.simulator.play.calls import Call, Input
from infra.simulator.play.plan import Delegate, Request, Say, Think, UseTool
from infra.simulator.play.session import Session, without_roster
from infra.simulator.play.stage import INTERRUPTED, Stage
from infra.simulator.play.thread import Thread
from infra.simulator.play.usage import Tokens
from infra.simulator.reply import reply_to

MAX_CHILDREN = 25


def hire(stage: Stage, work: Delegate) -> Thread:
    """The child for this work, new or known from an earlier turn, with the brief sent to it."""
    session = stage.session
    known = [child for child in session.threads.values() if child.name == work.agent_name]
    usable = [child for child in known if child.archived_at is None and child.parent]
    if usable and (stage.dice.random() < 0.5 or len(session.threads) > MAX_CHILDREN):
        child = usable[0]
    else:
        child = new_child(session, work.agent_name)
    fields = {
        "to_session_thread_id": child.id,
        "to_agent_name": child.name,
        "content": _text(work.brief),
    }
    session.emit("agent.thread_message_sent", fields)
    return child


def new_child(session: Session, name: str, *, run: str = "") -> Thread:
    """A new thread, of a workflow run where one is named: of the agent of that name in the roster, where there is
    one, else of one that is like the session's own."""
    roster = (session.agent.get("multiagent") or {}).get("agents", [])
    agent = next((one for one in roster if one["name"] == name), None)
    agent = agent or {**without_roster(session.agent), "name": name}
    child = Thread(
        session.made.new("sthr"), session.id, agent, session.updated_at, session.primary.id
    )
    session.threads[child.id] = child
    fields = {"session_thread_id": child.id, "agent_name": name}
    session.emit("session.thread_created", fields | ({"workflow_run_id": run} if run else {}))
    child.run = run or None
    return child


async def work(stage: Stage, child: Thread, task: Delegate) -> None:
    """The child's whole work, from its brief to its report.

    Afterwards it is idle. Its report has been sent on its own log; `report` shows it on the primary.
    """
    session = stage.session
    sender = {"from_session_thread_id": session.primary.id, "from_agent_name": session.primary.name}
    session.emit("agent.thread_message_received", {**sender, "content": _text(task.brief)}, child)
    tokens = Tokens(fresh=stage.dice.randrange(200, 2_000), output=stage.dice.randrange(50, 400))
    look = UseTool("grep", {"query": task.brief[:40]}, "2 matches")
    await stage.request(child, Request((Think(), look), tokens))
    if task.ask and not await _ask(stage, child, tokens):
        return
    await stage.request(child, Request((Say(reply_to(task.brief)),), tokens))
    sent = {"to_session_thread_id": session.primary.id, "content": _text(reply_to(task.brief))}
    session.emit("agent.thread_message_sent", sent, child)
    status.thread_rests(session, child, {"type": "end_turn"}, hold=1)
    session.emit_usage()


def report(session: Session, child: Thread, task: Delegate) -> None:
    """The child's message as the primary thread receives it."""
    sender = {"from_session_thread_id": child.id, "from_agent_name": child.name}
    content = _text(reply_to(task.brief))
    session.emit("agent.thread_message_received", {**sender, "content": content})


async def _ask(stage: Stage, child: Thread, tokens: Tokens) -> bool:
    """The child calls a tool of the client and waits. False: an interrupt for it ended its work.

    The idle that names the call comes before the call itself shows on the primary thread, and after
    the answer an idle that names it again: both were seen on the wire.
    """
    session = stage.session
    span = session.emit("span.model_request_start", thread=child)
    body: dict[str, Any] = {"name": "lookup", "input": {"query": child.name}}
    ident = session.emit("agent.custom_tool_use", body, child)
    end = {"is_error": False, "model_request_start_id": span, "model_usage": tokens.span()}
    session.emit("span.model_request_end", end, child)
    stage.open_call(ident, "custom", child)
    status.thread_rests(session, child, status.waiting([ident]))
    session.emit_usage()
    session.emit("agent.custom_tool_use", {**body, "session_thread_id": child.id}, ident=ident)
    session.emit_usage()
    status.idle(session, status.waiting([ident]))
    if not await _answered(stage, child, session.calls[ident]):
        return False
    _take_up(session, child, session.calls[ident])
    return True


async def _answered(stage: Stage, child: Thread, call: Call) -> bool:
    session = stage.session
    while call.state == "open":
        stage.check()
        if mine := [i for i in session.interrupts if i.body.get("session_thread_id") == child.id]:
            _stop(stage, child, call, mine)
            return False
        session.nudge.clear()
        await session.nudge.wait()
    return True


def _stop(stage: Stage, child: Thread, call: Call, interrupts: list[Input]) -> None:
    session = stage.session
    call.state = "closed"
    stage.tool_result(child, call.id, INTERRUPTED, failed=True)
    for item in interrupts:
        session.interrupts.remove(item)
        session.process(item)
    session.set_status("running")
    status.thread_rests(session, child, {"type": "end_turn"})


def _take_up(session: Session, child: Thread, call: Call) -> None:
    status.run(session)
    while session.answers:
        item = session.answers.popleft()
        session.process(item)
        if item is call.answer:
            hidden = ("id", "type", "session_thread_id")
            fields = {key: value for key, value in item.body.items() if key not in hidden}
            session.emit(item.type, fields, child)
    status.thread_runs(session, child)
    status.thread_rests(session, session.primary, {"type": "end_turn"})
    session.emit_usage()
    status.idle(session, status.waiting([call.id]))  # stale: names what was just answered
    session.set_status("running")


def _text(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]
