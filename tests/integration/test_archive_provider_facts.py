"""What the views tell of outcomes, child threads, workflow runs, and of how well a version of an agent does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clickhouse_archive import emptied_archive
from tests.clickhouse_rows import USAGE, event, turn
from tests.integration.test_archive_facts import Archive, second

pytestmark = pytest.mark.integration


@pytest.fixture
def archive() -> Iterator[Archive]:
    archive = Archive(emptied_archive())
    yield archive
    archive.close()


def said(seq: int, type_: str, **data: Any) -> bytes:
    thread = data.pop("thread_id", None)
    turn_id = data.pop("turn_id", "t1")
    body = json.dumps({"id": data.pop("id", f"sevt_{seq}"), "type": type_, **data})
    return event(seq, type_, body, at=second(seq), thread_id=thread, turn_id=turn_id)


def put(archive: Archive, events: list[bytes], order: str) -> None:
    """The events in order or from the last to the first, or each of them twice."""
    archive.put(*(reversed(events) if order == "backwards" else events))
    if order == "twice":
        archive.put(*events)


ORDERS = pytest.mark.parametrize("order", ["forwards", "backwards", "twice"])


@ORDERS
def test_an_outcome_has_a_row_for_each_evaluation(archive: Archive, order: str) -> None:
    evaluation = {"outcome_id": "outc_1", "iteration": 0}
    again = {**evaluation, "iteration": 1}
    wanted = {"description": "a page", "rubric": {"type": "text", "content": "r"}}
    end = {"usage": {"input_tokens": 0}, "outcome_evaluation_start_id": "sevt_2"}
    events = [
        said(1, "user.define_outcome", outcome_id="outc_1", max_iterations=3, **wanted),
        said(2, "span.outcome_evaluation_start", **evaluation),
        said(3, "span.outcome_evaluation_ongoing", **evaluation),
        said(
            4,
            "span.outcome_evaluation_end",
            **evaluation,
            **end,
            result="needs_revision",
            explanation="short",
        ),
        said(5, "span.outcome_evaluation_start", **again),
    ]
    put(archive, events, order)
    columns = "iteration, description, max_iterations, result, explanation, seconds, turn_id"
    found = archive.rows(f"SELECT {columns} FROM outcome_facts ORDER BY iteration")
    assert [tuple(row.values()) for row in found] == [
        (0, "a page", 3, "needs_revision", "short", 2.0, "t1"),
        (1, "a page", 3, "", "", None, "t1"),
    ]


@ORDERS
def test_a_child_thread_is_a_row_with_what_it_did_and_cost(archive: Archive, order: str) -> None:
    child = {"session_thread_id": "sthr_c", "agent_name": "checker"}
    primary = {"session_thread_id": "sthr_p", "agent_name": "main"}
    text = [{"type": "text", "text": "look \ud83d"}]
    charge = {
        "agent": "a",
        "provider_session_id": "p",
        "cost_usd": 0.25,
        "lines": [
            {
                "kind": "request",
                "source": "sevt_9",
                "thread_id": "sthr_c",
                "model": "m",
                "price": "m",
                "micro_usd": 250_000,
            }
        ],
    }
    events = [
        said(1, "session.thread_status_running", **primary),
        said(2, "session.thread_created", **child, workflow_run_id="wrun_1"),
        said(
            3,
            "agent.thread_message_sent",
            to_session_thread_id="sthr_c",
            to_agent_name="checker",
            content=text,
        ),
        said(
            4,
            "agent.thread_message_received",
            from_session_thread_id="sthr_p",
            content=text,
            thread_id="sthr_c",
        ),
        said(5, "session.thread_status_running", **child, id="run"),
        said(6, "session.thread_status_running", **child, id="run", thread_id="sthr_c"),
        said(7, "session.thread_status_rescheduled", **child),
        said(8, "span.model_request_start", thread_id="sthr_c"),
        said(
            9,
            "span.model_request_end",
            thread_id="sthr_c",
            model_request_start_id="sevt_8",
            model_usage=USAGE,
        ),
        event(10, "session.charged", json.dumps(charge), at=second(10)),
        said(11, "agent.thread_message_received", from_session_thread_id="sthr_c", content=text),
        said(12, "session.thread_status_terminated", **child),
    ]
    put(archive, events, order)
    columns = (
        "thread_id, agent_name, workflow_run_id, turn_id, status, runs, reschedules, messages_to, messages_from, "
        "requests, input_tokens, output_tokens, toFloat64(cost_usd)"
    )
    found = archive.rows(f"SELECT {columns} FROM thread_facts")
    assert [tuple(row.values()) for row in found] == [
        ("sthr_c", "checker", "wrun_1", "t1", "terminated", 1, 1, 1, 1, 1, 10, 20, 0.25)
    ]


@ORDERS
def test_a_workflow_run_is_a_row_with_its_phases_and_threads(archive: Archive, order: str) -> None:
    run = {"workflow_run_id": "wrun_1"}
    error = {"type": "program_error", "message": "The plan failed."}
    phases = [{"id": "p1", "name": "One"}, {"id": "p2", "name": "Two"}]
    child = {"session_thread_id": "sthr_c", "agent_name": "checker"}
    events = [
        said(1, "workflow_run.created", **run, name="survey", description=None, phases=phases),
        said(2, "workflow_run.status_running", **run),
        said(3, "workflow_run.phase_started", **run, workflow_run_phase_id="p1"),
        said(4, "session.thread_created", **child, **run),
        said(5, "workflow_run.phase_ended", **run, phase_started_id="sevt_3"),
        said(6, "workflow_run.error", **run, error=error),
        said(7, "workflow_run.status_ended", **run, result={"type": "error", "error": error}),
        said(8, "workflow_run.error", workflow_run_id=None, error={"type": "max_workflow_runs"}),
        said(9, "workflow_run.created", workflow_run_id="wrun_2", name="open", phases=[]),
        said(10, "workflow_run.status_idle", workflow_run_id="wrun_2"),
    ]
    put(archive, events, order)
    columns = (
        "workflow_run_id, name, phases, phases_started, phases_ended, status, result, error_type, error_message, "
        "threads, seconds"
    )
    found = archive.rows(f"SELECT {columns} FROM workflow_run_facts ORDER BY workflow_run_id")
    assert [tuple(row.values()) for row in found] == [
        ("wrun_1", "survey", 2, 1, 1, "ended", "error", "program_error", error["message"], 1, 6.0),
        ("wrun_2", "open", 0, 0, 0, "idle", "", "", "", 0, None),
    ]


@ORDERS
def test_what_changed_in_a_session_is_a_row(archive: Archive, order: str) -> None:
    error = {"type": "model_overloaded_error", "message": "busy"}
    events = [
        said(1, "session.updated", title="New", metadata={"a": "b"}),
        said(2, "session.error", error={**error, "retry_status": {"type": "retrying"}}),
        said(3, "session.status_rescheduled"),
        said(4, "agent.thread_context_compacted"),
        said(5, "system.message", content=[{"type": "text", "text": "Hurry."}]),
        said(6, "workflow_run.error", error={"type": "max_workflow_runs_error", "message": "full"}),
        said(7, "session.status_terminated"),
    ]
    put(archive, events, order)
    columns = "type, changed, error_type, retry_status, message"
    found = archive.rows(f"SELECT {columns} FROM session_changes ORDER BY seq")
    assert [tuple(row.values()) for row in found] == [
        ("session.updated", ["title", "metadata"], "", "", ""),
        ("session.error", [], "model_overloaded_error", "retrying", "busy"),
        ("session.status_rescheduled", [], "", "", ""),
        ("agent.thread_context_compacted", [], "", "", ""),
        ("system.message", [], "", "", "Hurry."),
        ("workflow_run.error", [], "max_workflow_runs_error", "", "full"),
        ("session.status_terminated", [], "", "", ""),
    ]


def the_turn(number: int, status: str, version: int, *between: bytes, **fields: Any) -> list[bytes]:
    """A turn that was started on a version and ended, with what happened between."""
    name, seq = f"turn{number}", 10 * number
    told: dict[str, Any] = {"turn_id": name, "agent": "agent_1", "agent_version": version}
    end = {"turn_id": name, "ended_at": "2026-11-21T10:00:10.000000Z", **fields}
    return [
        event(seq, "turn.started", turn("running", **told), turn_id=name),
        *between,
        event(seq + 9, f"turn.{status}", turn(status, 0.5, **end), turn_id=name),
    ]


@ORDERS
def test_a_version_of_an_agent_is_judged_by_its_turns(archive: Archive, order: str) -> None:
    def failed_tool(seq: int, name: str) -> list[bytes]:
        use = {"name": "search", "input": {}, "turn_id": name}
        return [
            said(seq, "agent.tool_use", id=f"call{seq}", **use),
            said(
                seq + 1, "agent.tool_result", tool_use_id=f"call{seq}", is_error=True, turn_id=name
            ),
        ]

    def stalled(seq: int, name: str) -> bytes:
        return event(seq, "turn.stalled", turn("running", turn_id=name), turn_id=name)

    accepted = event(50, "turn.accepted", turn("accepted", turn_id="never"), turn_id="never")
    events = [
        *the_turn(1, "completed", 1, *failed_tool(11, "turn1")),
        *the_turn(2, "failed", 1, *failed_tool(21, "turn2"), attempts=8),
        *the_turn(3, "completed", 2, stalled(31, "turn3"), stalled(32, "turn3"), attempts=2),
        *the_turn(4, "interrupted", 2),
        accepted,
    ]
    put(archive, events, order)
    columns = (
        "agent, agent_version, turns, completed, failed, success_rate, tool_errors, turns_with_tool_errors, "
        "got_over_tool_errors, retried, completed_when_retried, stalled, resumed_after_stall, toFloat64(cost_usd), "
        "p95_seconds"
    )
    found = archive.rows(f"SELECT {columns} FROM agent_version_days ORDER BY agent_version")
    assert [tuple(row.values()) for row in found] == [
        ("agent_1", 1, 2, 1, 1, 0.5, 2, 2, 1, 1, 0, 0, 0, 1.0, 10.0),
        ("agent_1", 2, 2, 1, 0, 0.5, 0, 0, 0, 1, 1, 1, 1, 1.0, 10.0),
    ]


@ORDERS
def test_what_a_turn_was_given_is_a_row_each(archive: Archive, order: str) -> None:
    given = [
        {"type": "file", "file_id": "file_1", "mount_path": "/data/a"},
        {
            "type": "github_repository",
            "url": "https://github.com/acme/shop",
            "checkout": {"type": "branch", "name": "main"},
            "mount_path": "/workspace/shop",
        },
        {"type": "memory_store", "memory_store_id": "memstore_1"},
        {"type": "memory_store", "memory_store_id": "memstore_2", "access": "read_only"},
        {"type": "file", "file_id": "file_2"},
    ]
    text = "half \\ud83d"
    events = [
        event(1, "turn.accepted", turn("accepted", turn_id="t1", content=text, resources=given)),
        event(2, "turn.started", turn("running", turn_id="t1", resources=given)),
        event(3, "turn.accepted", turn("accepted", turn_id="t2"), turn_id="t2"),
    ]
    put(archive, events, order)
    columns = "turn_id, kind, resource_id, mount_path, checkout, access, in_content"
    found = archive.rows(f"SELECT {columns} FROM turn_resources ORDER BY kind, resource_id")
    assert [tuple(row.values()) for row in found] == [
        ("t1", "file", "file_1", "/data/a", "", "", False),
        ("t1", "file", "file_2", "", "", "", True),
        (
            "t1",
            "github_repository",
            "https://github.com/acme/shop",
            "/workspace/shop",
            "main",
            "",
            False,
        ),
        ("t1", "memory_store", "memstore_1", "", "", "read_write", False),
        ("t1", "memory_store", "memstore_2", "", "", "read_only", False),
    ]
    (at,) = {row["submitted_at"] for row in archive.rows("SELECT submitted_at FROM turn_resources")}
    assert str(at).startswith("2026-11-21 10:00:00")
