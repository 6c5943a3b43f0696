"""The events that say that a session runs, rests or ends, in their order."""

from __future__ import annotations

from typing import Any

from infra.simulator.play.session import Session
from infra.simulator.play.thread import Thread

REFUSED = {
    "type": "refusal",
    "category": "general_harms",
    "explanation": "The request was declined by a safety classifier.",
}


def run(session: Session, *, errors: int = 0) -> None:
    """The running pair; `errors` retried errors fall between its two events."""
    session.set_status("running")
    session.emit("session.status_running")
    for _ in range(errors):
        error(session, "model_overloaded_error", "The model is overloaded.", "retrying")
    thread_runs(session, session.primary)


def thread_runs(session: Session, thread: Thread) -> None:
    """A thread starts to run; a child's event has one id on its own log and the primary's."""
    thread.status = "running"
    _on_both(session, thread, "session.thread_status_running", {})


def thread_rests(session: Session, thread: Thread, stop: dict[str, Any], *, hold: int = 0) -> None:
    """A thread goes idle; on both logs for a child."""
    thread.status = "idle"
    fields: dict[str, Any] = {"stop_reason": stop}
    if stop["type"] == "refusal":
        fields["stop_details"] = REFUSED
    _on_both(session, thread, "session.thread_status_idle", fields, hold=hold)


def thread_ends(session: Session, thread: Thread) -> None:
    """A thread takes no more input."""
    thread.status = "terminated"
    thread.archived_at = session.updated_at
    _on_both(session, thread, "session.thread_status_terminated", {})


def rest(
    session: Session, stop: dict[str, Any], *, thread_stop: dict[str, Any] | None = None
) -> None:
    """Thread idle, usage, session idle: the end of a turn or a wait for the client."""
    thread_rests(session, session.primary, thread_stop or stop)
    session.emit_usage()
    idle(session, stop)


def idle(session: Session, stop: dict[str, Any]) -> None:
    """The session's own idle event alone."""
    session.set_status("idle")
    fields: dict[str, Any] = {"stop_reason": stop}
    if stop["type"] == "refusal":
        fields["stop_details"] = REFUSED
    session.emit("session.status_idle", fields)


def waiting(ids: list[str]) -> dict[str, Any]:
    """The stop reason of a session that waits for answers to these events."""
    return {"type": "requires_action", "event_ids": ids}


def reschedule(session: Session) -> None:
    session.set_status("rescheduling")
    session.emit("session.status_rescheduled")
    _on_both(session, session.primary, "session.thread_status_rescheduled", {})


def error(session: Session, kind: str, message: str, retry: str, server: str = "") -> None:
    """`server`: the MCP server that it is about."""
    body = {"type": kind, "message": message, "retry_status": {"type": retry}}
    if server:
        body["mcp_server_name"] = server
    session.emit("session.error", {"error": body})


def terminate(session: Session, *, listed: bool) -> None:
    """The end for good. When a client archives, the event is on the stream and not in the list."""
    session.set_status("terminated")
    for thread in session.threads.values():
        thread.status = "terminated"
    if listed:
        session.emit("session.status_terminated")
    else:
        session.publish_only("session.status_terminated")


def _on_both(
    session: Session, thread: Thread, kind: str, fields: dict[str, Any], *, hold: int = 0
) -> None:
    body = {"session_thread_id": thread.id, "agent_name": thread.name, **fields}
    ident = session.emit(kind, body, hold=hold)
    if thread is not session.primary:
        session.emit(kind, body, thread, ident=ident)
