"""Turns that ask for an outcome, through the whole stack: defined once, evaluated, shown with what was said."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.api import Api
from tests.e2e.provider import Provider
from tests.e2e.tenants import ACME

pytestmark = pytest.mark.e2e


def wanted(script: str) -> dict[str, Any]:
    rubric = {"type": "text", "content": "one page, no more"}
    return {"description": f"a page [[script: {script}]]", "rubric": rubric, "max_iterations": 2}


async def ask(api: Api, session: str, turn_id: str, outcome: dict[str, Any]) -> None:
    await api.post(f"/v1/sessions/{session}/turns", {"turn_id": turn_id, "outcome": outcome})


async def test_a_turn_shows_what_the_grader_said(api: Api, provider: Provider) -> None:
    session = "outcomes"
    await api.open(session)
    await api.say(session, "t1", "hello [[script: reply]]")
    for number, script in enumerate(("outcome revise=1", "outcome revise=5"), 2):
        for _ in range(2):  # the same id again is the same turn
            await ask(api, session, f"t{number}", wanted(script))
    first, second, third = [await api.ended(session, f"t{n}") for n in (1, 2, 3)]
    assert {turn["status"] for turn in (first, second, third)} == {"completed"}
    assert first["evaluations"] == []
    said = [[(e["iteration"], e["result"]) for e in t["evaluations"]] for t in (second, third)]
    assert said == [
        [(0, "needs_revision"), (1, "satisfied")],
        [(0, "needs_revision"), (1, "max_iterations_reached")],
    ]
    assert second["evaluations"][0]["outcome_id"] != third["evaluations"][0]["outcome_id"]
    (made,) = await provider.of(ACME, session)
    log = await provider.log(made)
    told = [event.type for event in log.events]
    assert told.count("user.define_outcome") == 2
    assert told.count("user.message") == 1
