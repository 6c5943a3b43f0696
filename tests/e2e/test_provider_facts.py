"""What the archive tells of child threads, workflow runs and outcomes is what the provider's own pages say."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.api import Api
from tests.e2e.archive import Archive
from tests.e2e.provider import Provider
from tests.e2e.tenants import ACME

pytestmark = pytest.mark.e2e
RUBRIC = {"type": "text", "content": "one page, no more"}
TURNS: list[dict[str, Any]] = [
    {"content": "[[script: threads children=2]]"},
    {"content": "[[script: workflow phases=2 threads=2]]"},
    {"content": "[[script: workflow phases=1 fails=1]]"},
    {"outcome": {"description": "a page [[script: outcome revise=1]]", "rubric": RUBRIC}},
]


@pytest.fixture(scope="module")
async def session(api: Api, archive: Archive) -> str:
    """A session with a turn of each kind, all of it archived."""
    name = "provider-facts"
    await api.open(name)
    for number, asked in enumerate(TURNS, 1):
        turn_id = f"t{number}"
        await api.post(f"/v1/sessions/{name}/turns", {"turn_id": turn_id, **asked})
        assert (await api.ended(name, turn_id))["status"] == "completed"
    page = await api.settled(name)
    await archive.complete(ACME, name, page["last_seq"])
    return name


async def facts(archive: Archive, session: str, what: str) -> list[tuple[Any, ...]]:
    where = "WHERE tenant_id = {tenant:String} AND session_id = {session:String}"
    found = await archive.query(
        f"SELECT {what.replace(' ORDER', f' {where} ORDER')}", tenant=ACME, session=session
    )
    return [tuple(row) for row in found]


async def test_threads_have_the_tokens_and_the_cost_that_the_provider_says(
    session: str, archive: Archive, provider: Provider
) -> None:
    (made,) = await provider.of(ACME, session)
    listed = await provider.threads(made)
    what = (
        "thread_id, turn_id, status, workflow_run_id, input_tokens, output_tokens, toFloat64(cost_usd) "
        "FROM thread_facts ORDER BY thread_id"
    )
    found = await facts(archive, session, what)
    assert {row[0] for row in found} == set(listed)
    for thread, turn_id, status, run, fresh, output, cost in found:
        page, usage = listed[thread], listed[thread]["usage"]
        assert (status, run) == (page["status"], page["workflow_run_id"] or "")
        assert (fresh, output) == (usage["input_tokens"], usage["output_tokens"])
        assert abs(cost - int(usage["list_cost"]["amount"]) / 100) <= 0.005
        assert turn_id in ("t1", "t2", "t3")


async def test_runs_and_evaluations_have_their_ends(session: str, archive: Archive) -> None:
    what = "turn_id, phases, phases_ended, threads, status, result FROM workflow_run_facts ORDER BY turn_id"
    assert await facts(archive, session, what) == [
        ("t2", 2, 2, 4, "ended", "completed"),
        ("t3", 1, 1, 1, "ended", "error"),
    ]
    what = "turn_id, iteration, result, max_iterations FROM outcome_facts ORDER BY iteration"
    assert await facts(archive, session, what) == [
        ("t4", 0, "needs_revision", 3),
        ("t4", 1, "satisfied", 3),
    ]


async def test_a_turns_cost_holds_that_of_its_threads(
    session: str, archive: Archive, api: Api
) -> None:
    what = "turn_id, sum(cost_usd) FROM thread_facts GROUP BY turn_id ORDER BY turn_id"
    where = "WHERE tenant_id = {tenant:String} AND session_id = {session:String}"
    sql = f"SELECT {what.replace(' GROUP', f' {where} GROUP')}"
    for turn_id, cost in await archive.query(sql, tenant=ACME, session=session):
        assert 0 < float(cost) < (await api.turn(session, turn_id))["cost_usd"]
