"""Workflow runs: background work by a plan, in phases, each with threads of its own.

A run's events are on the primary thread. Its threads begin with a phase and are terminated with it, and
`session.thread_created` names the run. A run that goes on after the turn is left open, and ends after the idle.
"""

from __future__ import annotations

from infra.simulator.play import children, status
from infra.simulator.play.plan import Delegate, RunWorkflow
from infra.simulator.play.session import JSON, Session
from infra.simulator.play.stage import Stage

REFUSED = {"type": "max_workflow_runs_error", "message": "The session has too many open runs."}
FAILED = {"type": "program_error", "message": "The plan failed."}


async def run(stage: Stage, plan: RunWorkflow) -> None:
    """All of a run, or up to its last phase where it goes on after the turn."""
    session = stage.session
    if plan.refused:
        session.emit("workflow_run.error", {"error": REFUSED, "workflow_run_id": None})
        return
    ident = session.made.new("wrun")
    phases = [_phase(session, number) for number in range(plan.phases)]
    fields = {"name": "survey", "description": "Looks at every part.", "phases": phases}
    _tell(session, "created", ident, fields)
    _tell(session, "status_running", ident)
    for number, phase in enumerate(phases):
        started = _tell(session, "phase_started", ident, {"workflow_run_phase_id": phase["id"]})
        await _work(stage, plan, ident, number)
        ending = {"phase_started_id": started, "workflow_run_phase_id": phase["id"]}
        if plan.after and number == len(phases) - 1:
            session.open_runs.append((ident, ending))
            return
        _tell(session, "phase_ended", ident, ending)
    _end(session, plan, ident)


def close_open(session: Session) -> None:
    """The runs that were left open end."""
    while session.open_runs:
        ident, ending = session.open_runs.pop(0)
        _tell(session, "phase_ended", ident, ending)
        _tell(session, "status_ended", ident, {"result": {"type": "completed"}})


async def _work(stage: Stage, plan: RunWorkflow, ident: str, phase: int) -> None:
    """The threads of one phase, one after another."""
    session = stage.session
    for number in range(plan.threads):
        task = Delegate(f"phase {phase + 1} thread {number + 1}", f"Look at part {number + 1}.")
        child = children.new_child(session, task.agent_name, run=ident)
        status.thread_runs(session, child)
        await children.work(stage, child, task)
        status.thread_ends(session, child)


def _phase(session: Session, number: int) -> JSON:
    ident = session.made.new("wrph")
    return {"id": ident, "name": f"Phase {number + 1}", "description": None}


def _end(session: Session, plan: RunWorkflow, ident: str) -> None:
    _tell(session, "status_idle", ident)
    if plan.fails:
        session.emit("workflow_run.error", {"error": FAILED, "workflow_run_id": ident})
        result: JSON = {"type": "error", "error": FAILED}
    else:
        result = {"type": "stopped" if plan.stopped else "completed"}
    _tell(session, "status_ended", ident, {"result": result})


def _tell(session: Session, what: str, ident: str, fields: JSON | None = None) -> str:
    return session.emit(f"workflow_run.{what}", {"workflow_run_id": ident, **(fields or {})})
