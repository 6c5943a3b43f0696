"""`turnstile cost reconcile` on the simulator's report and a real database; and that report, through the SDK."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from anthropic import BadRequestError
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner, Result

from infra.postgres.migrate import migrate_async
from services.agent_worker.adapters.engine import make_engine, store_on
from services.agent_worker.ports import NewInput
from services.operator.costs.reconcile import UNEXPLAINED
from services.operator.main import build
from shared.clock import utcnow
from shared.moment import rfc3339
from shared.orphans import MARK, mark
from shared.tables.worker import LEDGER
from tests.builders import turn
from tests.integration.simulator_client import Provider, provided
from tests.stack import fresh_database

pytestmark = pytest.mark.integration
DEAR = "[[script: budget rounds=1 cents=70]]"


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with provided() as provider:
        yield provider


@pytest.fixture(params=["sqlite", "postgres"])
async def engine(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    postgres_server: str,
    provider: Provider,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[AsyncEngine]:
    """A migrated database; the command's environment names it and the simulator."""
    monkeypatch.setenv("ANTHROPIC_BASE_URL", provider.url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
    async with AsyncExitStack() as stack:
        url = f"sqlite+aiosqlite:///{tmp_path}/ledger.db"
        if request.param == "postgres":
            url = await stack.enter_async_context(fresh_database(postgres_server))
        await migrate_async(url)
        monkeypatch.setenv("TURNSTILE_DATABASE_URL", url)
        engine = make_engine(url, pool=2)
        stack.push_async_callback(engine.dispose)
        yield engine


async def spent(provider: Provider, **more: Any) -> tuple[str, int]:
    """A session that cost something: its id, and how many cents the provider shows."""
    session = await provider.session(**more)
    await provider.say(session, DEAR)
    shown = (await provider.beta.sessions.retrieve(session)).usage.list_cost
    assert shown is not None
    return session, int(shown.amount)


async def charge(engine: AsyncEngine, session: str, micro_usd: int, **more: Any) -> None:
    """One line of the ledger."""
    line = {
        "tenant_id": "acme", "session_id": f"ses_{session}", "seq": 1, "line": 0,
        "at": rfc3339(utcnow()), "turn_id": "t1", "user_id": "u1", "agent": "a",
        "provider_session_id": session, "kind": "request", "source": "", "thread_id": "",
        "model": "m", "price": "p", "input_tokens": 0, "output_tokens": 0, "cache_read_tokens": 0,
        "cache_write_tokens": 0, "cache_hour_tokens": 0, "active_ms": 0, "micro_usd": micro_usd,
        "estimate": False, **more,
    }  # fmt: skip
    async with engine.begin() as connection:
        await connection.execute(insert(LEDGER), line)


def whole_days() -> Any:
    now = datetime.now(UTC)
    return {"starting_at": now - timedelta(days=1), "ending_at": now + timedelta(days=1)}


def days() -> tuple[str, ...]:
    now = datetime.now(UTC)
    return "--since", f"{now - timedelta(days=40):%F}", "--until", f"{now + timedelta(days=1):%F}"


async def reconciled(*arguments: str) -> Result:
    """In a thread: the simulator is served by this loop."""
    command = ["cost", "reconcile", *days(), *arguments]
    return await asyncio.to_thread(CliRunner().invoke, build(), command)


async def parts(expected: int) -> dict[str, dict[str, int]]:
    """Why each session differs, in cents."""
    done = await reconciled("--json")
    assert done.exit_code == expected, done.output
    return {
        one["provider_session_id"]: {
            reason: round(usd * 100) for reason, usd in one["parts_usd"].items()
        }
        for one in json.loads(done.output)["differences"]
    }


async def test_a_ledger_that_agrees_has_only_rounding(
    provider: Provider, engine: AsyncEngine
) -> None:
    cents = 0
    for _ in range(3):
        session, amount = await spent(provider)
        await charge(engine, session, amount * 10_000, output_tokens=4)
        cents += amount
    done = await reconciled()
    assert done.exit_code == 0, done.output
    assert "unexplained" not in done.output
    assert f"{cents / 100:,.6f}" in done.output
    async for row in provider.beta.organization.analytics.usage.list(**whole_days()):
        tokens = row.usage.output_tokens
    assert f"{tokens:,} reported, 12 in the ledger: {tokens - 12:+,}" in done.output
    (reasons,) = {frozenset(why) for why in (await parts(0)).values()}
    assert reasons == {"rounding"}


async def test_each_kind_of_difference_is_told(provider: Provider, engine: AsyncEngine) -> None:
    theirs, _ = await spent(provider)
    other, _ = await spent(provider, metadata={MARK: mark("acme", "ses_elsewhere")})
    guessed, cents = await spent(provider)
    await charge(engine, guessed, cents * 10_000 + 50_000, estimate=True)
    late, cents = await spent(provider)
    await charge(engine, late, cents * 10_000)
    soon = rfc3339(utcnow() + timedelta(minutes=5))
    await charge(engine, late, 30_000, seq=2, at=soon)
    brought, cents = await spent(provider)
    await charge(engine, brought, 990_000, kind="brought_forward")
    await charge(engine, brought, cents * 10_000 - 990_000 + 500_000, seq=2)
    found = await parts(0)
    assert found[theirs].keys() == found[other].keys() == {"not_ours"}
    assert found[guessed]["estimate"] in (-5, -4)
    assert found[late]["not_reported_yet"] == -3
    assert found[brought]["before_the_ledger"] in (49, 50, 51)


async def test_what_nothing_explains_has_an_exit_code_of_its_own(
    provider: Provider, engine: AsyncEngine
) -> None:
    """Money that is missing in the ledger, in a session or altogether, and money that nobody bills."""
    short, cents = await spent(provider)
    await charge(engine, short, cents * 10_000 - 200_000)
    marked, _ = await spent(provider, metadata={MARK: mark("acme", "s1")})
    body = msgspec.json.encode(turn("t1").request)
    store = store_on(engine)
    await store.file([NewInput(("acme", "s1"), "turn:t1", "turn.requested", body)])
    await charge(engine, "sesn_never_billed", 400_000)
    found = await parts(UNEXPLAINED)
    assert found[short]["unexplained"] in (19, 20, 21)
    assert found[marked].keys() == {"unexplained"}
    assert found["sesn_never_billed"] == {"unexplained": -40}
    said = (await reconciled()).output
    assert "sesn_never_billed (acme/ses_sesn_never_billed)" in said
    assert f"{marked} (no ledger)" in said


async def test_a_refused_key_is_one_sentence_without_it(
    provider: Provider, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_ANALYTICS_KEY", "very-secret-key")
    away = {"kind": "respond", "status": 403, "message": "no scope read:analytics"}
    await provider.faults({"match": {"path": "analytics"}, "fault": away})
    done = await reconciled()
    assert done.exit_code == 1
    assert "reconciling costs" in done.output
    assert "very-secret-key" not in done.output
    wrong = ["cost", "reconcile", "--since", "2026-11-02", "--until", "2026-11-01"]
    assert CliRunner().invoke(build(), wrong).exit_code == 2


async def test_the_report_adds_up_to_what_sessions_show_deleted_ones_too(
    provider: Provider,
) -> None:
    shown: dict[str, int] = dict([await spent(provider) for _ in range(5)])
    deleted, *_, kept = shown
    await provider.beta.sessions.delete(deleted)
    ask = provider.beta.organization.analytics.cost.list
    now, span = datetime.now(UTC), whole_days()
    found: dict[str, Decimal] = {}
    types: set[Any] = set()
    async for row in ask(**span, group_by=["session_id", "cost_type"], limit=2):
        session = row.group.session_id or ""
        found[session] = found.get(session, Decimal()) + Decimal(row.cost.list_amount)
        types.add(row.group.cost_type)
    assert found.keys() == shown.keys()
    assert all(abs(amount - shown[session]) <= 1 for session, amount in found.items())
    assert types == {"tokens", "session_usage"}
    total = [row async for row in ask(**span)]
    assert len(total) == 1
    assert abs(Decimal(total[0].cost.amount) - sum(found.values())) < Decimal("0.001")
    one = [row async for row in ask(**span, group_by=["model"], session_ids=[kept])]
    assert {row.group.model for row in one} >= {"claude-sonnet-5"}
    usage = provider.beta.organization.analytics.usage.list
    used = {row.group.session_id: row.usage async for row in usage(**span, group_by=["session_id"])}
    assert used.keys() == shown.keys()
    shows = (await provider.beta.sessions.retrieve(kept)).usage
    assert used[kept].output_tokens == shows.output_tokens
    assert used[kept].uncached_input_tokens == shows.input_tokens
    for wrong in (
        {"starting_at": now - timedelta(days=40)},
        {"ending_at": now - timedelta(days=2)},
    ):
        with pytest.raises(BadRequestError, match="ending_at"):
            await ask(**{**span, **wrong})
