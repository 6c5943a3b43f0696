"""`turnstile audit` on a whole stack: clean when all is recorded, and what it finds and fills when it is not."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import clickhouse_connect
import pytest
from anthropic import AsyncAnthropic

from tests.e2e.api import Api
from tests.e2e.waiting import eventually
from tests.integration.simulator_client import message
from tests.stack import PROJECT, LocalStack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


async def turnstile(stack: LocalStack, *arguments: str, seconds: float = 120) -> tuple[int, str]:
    """The command in a process of its own: exit code and output."""
    environment = {
        **os.environ,
        "TURNSTILE_CLICKHOUSE_URL": stack.clickhouse_url,
        "TURNSTILE_DATABASE_URL": stack.database_url,
        "TURNSTILE_KAFKA_BOOTSTRAP": stack.kafka,
        "ANTHROPIC_BASE_URL": stack.simulator,
        "ANTHROPIC_API_KEY": "key",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.operator.main", *arguments),
        cwd=PROJECT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(process.communicate(), seconds)
    assert process.returncode is not None
    return process.returncode, out.decode()


async def audited(stack: LocalStack, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    code, out = await turnstile(stack, "audit", "--json", "--again", "1", *arguments)
    return code, [json.loads(line) for line in out.splitlines()]


async def test_an_audit_finds_what_is_missing_and_fills_it(local_stack: LocalStack) -> None:
    session = "audited"
    api = Api(local_stack.gateway, local_stack.key)
    await api.open(session)
    for turn in ("t1", "t2"):
        await api.say(session, turn, "count to three")
    for turn in ("t1", "t2"):
        await api.ended(session, turn)
    code, (summary,) = await audited(local_stack, "--session", session, "--again", "10")
    assert code == 0
    assert (summary["turns"], summary["findings"]) == (2, {})
    assert summary["provider_events"] > 10

    archive = clickhouse_connect.get_client(dsn=local_stack.clickhouse_url)
    where = f"session_id = '{session}' AND seq IN (3, 4, 9)"
    archive.command(f"DELETE FROM session_events WHERE {where}")
    archive.command("SYSTEM STOP MERGES session_events")  # they would leave one body of two
    archive.command(
        "INSERT INTO session_events (tenant_id, session_id, seq, event_id, type, turn_id, user_id, at, data) "
        "SELECT tenant_id, session_id, seq, event_id, type, turn_id, user_id, at, '{}' FROM session_events "
        f"WHERE session_id = '{session}' AND seq = 1"
    )
    code, (*findings, _) = await audited(local_stack, "--session", session, "--fix")
    assert code == 1
    gaps = [f for f in findings if f["kind"] == "missing_in_archive"]
    assert [(gap["seq"], gap["last_seq"]) for gap in gaps] == [(3, 4), (9, 9)]
    assert {gap["fixed"] for gap in gaps} == {"inserted from the log"}

    code, (*findings, _) = await audited(local_stack, "--session", session)
    archive.command("SYSTEM START MERGES session_events")
    assert code == 1
    assert [(f["kind"], f["seq"]) for f in findings] == [("two_bodies_for_a_seq", 1)]
    archive.close()


async def test_what_only_the_provider_has_is_recorded_by_the_worker(
    local_stack: LocalStack,
) -> None:
    session, api = "told-behind-our-back", Api(local_stack.gateway, local_stack.key)
    await api.open(session)
    await api.say(session, "t1", "hello")
    await api.ended(session, "t1")
    archive = clickhouse_connect.get_client(dsn=local_stack.clickhouse_url)
    question = f"SELECT data FROM events WHERE session_id = '{session}' AND type = 'turn.started'"

    async def started() -> str | None:
        rows = archive.query(question).result_rows
        return str(json.loads(rows[0][0])["provider_session_id"]) if rows else None

    bound = await eventually(started, "the turn's beginning is archived")
    archive.close()

    await local_stack.stop("agent-worker-1")  # else it listens on for a while
    async with AsyncAnthropic(base_url=local_stack.simulator, api_key="key") as sdk:
        await sdk.beta.sessions.events.send(bound, events=[message("psst")])
    await local_stack.start("agent-worker-1")

    arguments = ("--session", session, "--grace", "0", "--again", "2")
    code, (*findings, _) = await audited(local_stack, *arguments, "--fix")
    assert code == 1
    assert {f["kind"] for f in findings} == {"only_at_provider"}
    assert all("made due" in f["fixed"] for f in findings)

    async def heard() -> bool:
        return any("psst" in json.dumps(event["data"]) for event in await api.events(session))

    # An audit costs a second of processor time: it is asked once there is something to find.
    await eventually(heard, "the worker heard what it was not asked", timeout=120)

    async def recorded() -> bool:
        _, (*now, _) = await audited(local_stack, *arguments)
        return {finding["kind"] for finding in now} == {"message_of_no_turn"}

    await eventually(recorded, "the worker recorded what it was not asked", timeout=120)


async def test_an_audit_that_cannot_look_says_so(local_stack: LocalStack) -> None:
    code, _ = await turnstile(local_stack, "audit", "--session", "nobody")
    assert code == 2
