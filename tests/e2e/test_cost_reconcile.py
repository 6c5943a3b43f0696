"""The ledger of a whole stack held against the provider's bill: each session of ours is explained."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.operator.costs.reconcile import UNEXPLAINED
from tests.e2e.api import Api
from tests.e2e.provider import Provider
from tests.e2e.tenants import ACME
from tests.e2e.test_audit import turnstile
from tests.stack import LocalStack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
SAID = {
    "billed-plain": "hello",
    "billed-tools": "[[script: tools rounds=3 calls=2]]",
    "billed-threads": "[[script: threads children=2]]",
    "billed-runs": "[[script: workflow phases=2 threads=2]]",
    "billed-mcp": "[[script: mcp calls=2]]",
    "billed-compacted": "[[script: compaction rounds=2]]",
    "billed-dear": "[[script: budget rounds=2 cents=31]]",
    "billed-erased": "[[script: tools]] forget me",
}
# The grader's tokens are told by no request: only the session's account has them.
WANTED = {
    "description": "a page [[script: outcome revise=1 graded=30000]]",
    "rubric": {"type": "text", "content": "one page, no more"},
}


async def test_what_the_provider_bills_is_in_the_ledger(
    local_stack: LocalStack, api: Api, provider: Provider, tmp_path: Path
) -> None:
    for session, text in SAID.items():
        await api.open(session)
        await api.say(session, "t1", text)
    await api.open("billed-outcome")
    await api.post("/v1/sessions/billed-outcome/turns", {"turn_id": "t1", "outcome": WANTED})
    sessions = (*SAID, "billed-outcome")
    for session in sessions:
        assert (await api.ended(session, "t1"))["status"] == "completed"
    billed = {session: (await provider.of(ACME, session))[0] for session in sessions}
    whose = ("--session", "billed-erased", "--tenant", ACME, "--yes")
    out = str(tmp_path / "certificate.json")
    code, _ = await turnstile(local_stack, "erase", *whose, "--out", out, seconds=400)
    assert code == 0
    now = datetime.now(UTC)
    days = ("--since", f"{now - timedelta(days=1):%F}", "--until", f"{now + timedelta(days=1):%F}")
    code, out = await turnstile(local_stack, "cost", "reconcile", "--json", *days)
    told: dict[str, Any] = json.loads(out)
    assert code == (UNEXPLAINED if "unexplained" in told["reasons"] else 0)
    assert told["erased_usd"] > 0
    assert told["ledger_usd"] > 0.6
    differ = {one["provider_session_id"]: one["parts_usd"] for one in told["differences"]}
    for session, provider_session in billed.items():
        assert differ.get(provider_session, {}).keys() <= {"rounding"}, session
    assert told["tokens"]["output_tokens"]["ledger"] > 100
