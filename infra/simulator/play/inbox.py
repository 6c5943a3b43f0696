"""Events that a client sends: whether the session may take them, and what they do.

A send is all or nothing: every event is checked against the state before any is filed. Filing never
waits; the driver is woken and takes up the events at its own pace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from infra.simulator import stamps
from infra.simulator.content import (
    SystemMessage,
    ToolAnswer,
    UserCustomToolResult,
    UserDefineOutcome,
    UserEvent,
    UserInterrupt,
    UserMessage,
    UserToolConfirmation,
    UserToolResult,
    as_json,
)
from infra.simulator.errors import bad
from infra.simulator.play.calls import Call, Echo, Input
from infra.simulator.play.casting import Casting
from infra.simulator.play.session import Session

SETTLING = (UserInterrupt, UserToolConfirmation, UserCustomToolResult, UserToolResult)
BEFORE_SYSTEM = (UserMessage, UserToolResult, UserCustomToolResult)


def admit(session: Session, events: Sequence[UserEvent], casting: Casting) -> None:
    """Raises ApiError 400 when the session cannot take these events now; changes nothing."""
    if session.over:
        state = "archived" if session.archived_at is not None else "terminated"
        raise bad(f"session is {state} and accepts no events")
    if session.budget_stop and not all(isinstance(event, SETTLING) for event in events):
        raise bad("session has reached its budget; raise or remove it first", "budget_reached")
    _admit_system(events)
    answered: set[str] = set()
    interrupted = False
    for event in events:
        if isinstance(event, UserInterrupt):
            _admit_interrupt(session, event)
            interrupted = True
        elif isinstance(event, UserToolConfirmation | UserCustomToolResult | UserToolResult):
            _admit_answer(session, event, answered)
        else:
            if isinstance(event, UserMessage):
                _admit_text(event, casting)
            if isinstance(event, UserDefineOutcome):
                casting.check_outcome(event.description)
            # A system.message is let in with what it follows, tool results of a waiting session too.
            if not interrupted and not isinstance(event, SystemMessage):
                _admit_work(session)


def file(session: Session, events: Sequence[UserEvent]) -> list[dict[str, Any]]:
    """Files admitted events; returns them as the answer shows them, with their new ids.

    Afterwards each is pending in the list, except interrupts at a spent budget, which leave no
    trace. Ids come from the session's own sequence in the order of arrival.
    """
    return [_file(session, event) for event in events]


def _admit_system(events: Sequence[UserEvent]) -> None:
    for index, event in enumerate(events):
        if not isinstance(event, SystemMessage):
            continue
        if index != len(events) - 1:
            raise bad(f"events.{index}: system.message must be the last event of a request")
        if index == 0 or not isinstance(events[index - 1], BEFORE_SYSTEM):
            raise bad(f"events.{index}: system.message must follow a user.message or a tool result")


def _admit_text(event: UserMessage, casting: Casting) -> None:
    content = as_json(event)["content"]
    for index, block in enumerate(content):
        if block["type"] == "text" and not block["text"].strip():
            raise bad(f"content.{index}.text: text blocks must hold more than white space")
    casting.check(content)


def _admit_work(session: Session) -> None:
    waiting = session.open_calls()
    if session.status == "idle" and waiting:
        ids = ", ".join(call.id for call in waiting)
        raise bad(f"session is waiting on responses to events [{ids}]; answer or interrupt first")


def _admit_interrupt(session: Session, event: UserInterrupt) -> None:
    target = event.session_thread_id
    if target is not None and target not in session.threads:
        raise bad(f"session_thread_id: no thread {target!r} in this session")


def _admit_answer(session: Session, event: ToolAnswer, answered: set[str]) -> None:
    if isinstance(event, UserCustomToolResult):
        ident, kind, name = event.custom_tool_use_id, "custom", "custom_tool_use_id"
    elif isinstance(event, UserToolConfirmation):
        ident, kind, name = event.tool_use_id, "confirm", "tool_use_id"
    else:
        ident, kind, name = event.tool_use_id, "tool", "tool_use_id"
        if session.birth.environment["config"]["type"] != "self_hosted":
            raise bad("user.tool_result is only accepted in self_hosted environments")
    call = session.calls.get(ident)
    if call is None or call.kind != kind:
        raise bad(f"{name}: {ident!r} is not a tool use that takes this answer")
    if call.state == "closed":
        raise bad(f"{name}: {ident!r} is no longer waiting for an answer")
    if kind != "custom" and (call.state == "answered" or ident in answered):
        raise bad(f"{name}: {ident!r} has already been answered")
    answered.add(ident)


def _file(session: Session, event: UserEvent) -> dict[str, Any]:
    now = session.birth.now()
    fields = as_json(event)
    body: dict[str, Any] = {"id": session.taken.event(), "type": fields.pop("type"), **fields}
    item = Input(body["id"], body["type"], body, now, echo=_echo(session, event))
    if isinstance(event, UserInterrupt):
        if session.budget_stop:
            return body
        session.interrupts.append(item)
    elif isinstance(event, UserToolConfirmation | UserCustomToolResult | UserToolResult):
        _file_answer(session, item)
    else:
        if isinstance(event, UserDefineOutcome):
            _file_outcome(session, item)
        session.inbox.append(item)
    session.received.append(item)
    session.queue(item)
    session.nudge.set()
    if isinstance(event, UserCustomToolResult | UserToolResult | UserDefineOutcome):
        return {**body, "processed_at": stamps.written(now)}  # taken up on receipt
    return body


def _file_answer(session: Session, item: Input) -> None:
    body = item.body
    call: Call = session.calls[body.get("custom_tool_use_id") or body["tool_use_id"]]
    item.call = call
    if item.type != "user.tool_confirmation":
        body.setdefault("content", [])
        body["is_error"] = bool(body.get("is_error"))
    if call.thread_id != session.primary.id:
        body["session_thread_id"] = call.thread_id
    if call.answer is None:
        call.answer, call.state = item, "answered"
    session.answers.append(item)


def _file_outcome(session: Session, item: Input) -> None:
    ident = session.taken.new("outc")
    item.body["outcome_id"] = ident
    item.body.setdefault("max_iterations", 3)
    session.outcomes[ident] = {
        "type": "outcome_evaluation",
        "outcome_id": ident,
        "description": item.body["description"],
        "result": "pending",
        "iteration": 0,
        "explanation": None,
        "completed_at": None,
    }


def _echo(session: Session, event: UserEvent) -> Echo:
    """How streams will see it. Observed: mostly once; sometimes twice; sometimes without its time."""
    draw = session.taken.dice.random()
    if isinstance(event, UserMessage):
        return "once" if draw < 0.5 else "early" if draw < 0.75 else "bare"
    if isinstance(event, UserCustomToolResult | UserToolResult):
        return "once" if draw < 0.8 else "bare"
    return "once"
