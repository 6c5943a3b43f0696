"""What turns with child threads of other models, workflow runs and outcomes cost, held against the provider's own
figure: in SQL, in ClickHouse and on each turn's page."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.e2e.api import Api
from tests.e2e.archive import Archive
from tests.e2e.provider import Provider
from tests.e2e.tenants import ACME
from tests.stack import LocalStack

pytestmark = pytest.mark.e2e
SESSION, CENT = "turn-costs", 10_000
RUBRIC = {"type": "text", "content": "one page, no more"}
# The grader's tokens are told by no request: only the session's account has them.
OUTCOME = {"description": "a page [[script: outcome revise=1 graded=100000]]", "rubric": RUBRIC}
TURNS: dict[str, dict[str, Any]] = {
    "plain": {"content": "hello"},
    "threads": {"content": "[[script: threads children=4]]"},
    "runs": {"content": "[[script: workflow phases=2 threads=2]]"},
    "outcome": {"outcome": OUTCOME},
    "again": {"content": "[[script: threads children=3]]"},
}
MODELS = {"researcher": "claude-opus-5", "checker": "claude-haiku-4-5"}
COLUMNS = "turn_id, kind, thread_id, model, estimate, micro_usd"
WHERE = "tenant_id = 'acme' AND session_id = 'turn-costs'"


async def coordinator(stack: LocalStack) -> str:
    """An agent that calls two others, each of another model."""
    async with AsyncAnthropic(base_url=stack.simulator, api_key="key") as client:
        agents = client.beta.agents
        called = [
            (await agents.create(name=name, model=model)).id for name, model in MODELS.items()
        ]
        made = await agents.create(
            name="coordinator",
            model="claude-sonnet-5-5",
            multiagent={"type": "coordinator", "agents": called},
        )
        return made.id


async def in_sql(stack: LocalStack) -> list[tuple[Any, ...]]:
    engine = create_async_engine(stack.database_url)
    try:
        async with engine.connect() as connection:
            rows = await connection.execute(
                text(f"SELECT {COLUMNS} FROM worker_ledger WHERE {WHERE}")
            )
            return sorted(tuple(row) for row in rows)
    finally:
        await engine.dispose()


async def test_a_turn_costs_what_the_provider_says(
    local_stack: LocalStack, api: Api, archive: Archive, provider: Provider
) -> None:
    await api.open(SESSION, agent=await coordinator(local_stack))
    billed, before = dict[str, int](), 0
    for turn_id, asked in TURNS.items():
        await api.post(f"/v1/sessions/{SESSION}/turns", {"turn_id": turn_id, **asked})
        assert (await api.ended(SESSION, turn_id))["status"] == "completed"
        (made,) = await provider.of(ACME, SESSION)
        now = await provider.list_cost(made)
        billed[turn_id], before = now - before, now
    page = await api.settled(SESSION)
    await archive.complete(ACME, SESSION, page["last_seq"])

    lines = await in_sql(local_stack)
    told = await archive.query(f"SELECT {COLUMNS} FROM cost_facts WHERE {WHERE}")
    assert sorted(tuple(row) for row in told) == lines
    assert abs(sum(row[-1] for row in lines) - before * CENT) <= CENT
    of_turn, unseen, fitted = (defaultdict[str, int](int) for _ in range(3))
    for turn_id, kind, *_, micro_usd in lines:
        of_turn[turn_id] += micro_usd
        unseen[turn_id] += micro_usd * (kind == "unseen")
        fitted[turn_id] += micro_usd * (kind == "provider")
    # What the grader read is the outcome's turn's. An account may come before the requests that it counts: what
    # was made of them then is taken back.
    assert {turn_id for turn_id, spent in unseen.items() if spent} == {"outcome"}
    assert unseen["outcome"] == 2 * 100_000 * 2  # two evaluations, at two dollars a million
    assert all(abs(spent) <= CENT for spent in fitted.values()), "nothing was made to fit"
    for turn_id, cents in billed.items():
        assert abs(of_turn[turn_id] - cents * CENT) <= CENT, turn_id
        shown = (await api.turn(SESSION, turn_id))["cost_usd"]
        assert round(shown * 1e6) == of_turn[turn_id]
    await threads_by_their_own_models(provider, made, lines)


async def threads_by_their_own_models(
    provider: Provider, made: str, lines: list[tuple[Any, ...]]
) -> None:
    listed = await provider.threads(made)
    models = {thread: page["agent"]["model"]["id"] for thread, page in listed.items()}
    assert {*MODELS.values(), "claude-sonnet-5-5"} == set(models.values())
    of_thread = defaultdict[str, int](int)
    for _, kind, thread, model, estimate, micro_usd in lines:
        if thread:
            assert (kind, model, bool(estimate)) == ("request", models[thread], False)
            of_thread[thread] += micro_usd
    assert of_thread.keys() == listed.keys()
    for thread, spent in of_thread.items():
        cents = int(listed[thread]["usage"]["list_cost"]["amount"])
        assert abs(spent - cents * CENT) <= CENT // 2
