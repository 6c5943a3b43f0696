"""Recorded turns, sent to another agent: `turnstile rerun` on the whole stack, with two agents at the provider."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from anthropic import AsyncAnthropic

from infra.clients.gateway import Json
from infra.simulator import reply_to
from tests.e2e.conversing import converse
from tests.e2e.tenants import ACME
from tests.e2e.waiting import eventually
from tests.e2e.world import World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
TEXTS = [
    "Good morning. [[script: reply]]",
    "Look through the logs. [[script: tools rounds=2 calls=2]]",
    "Where is parcel 4711? [[script: custom_tool]]",
    "May I? [[script: confirm]]",
    "Do what you must not. [[script: refusal]]",
]
FAST = ("--rate", "6000", "--tenant", ACME)


async def another_agent(world: World) -> str:
    """A second agent at the provider, of another model; its id."""
    async with AsyncAnthropic(api_key="any", base_url=world.stack.simulator) as client:
        return (await client.beta.agents.create(name="other", model="claude-opus-5")).id


async def turnstile(world: World, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("turnstile")), *arguments),
        env={
            **os.environ,
            "TURNSTILE_CLICKHOUSE_URL": world.stack.clickhouse_url,
            "TURNSTILE_KAFKA_BOOTSTRAP": world.stack.kafka,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ran(world: World, *arguments: str, code: int = 0) -> tuple[str, str]:
    """Output and messages of a command that must end with `code`."""
    process = await turnstile(world, *arguments)
    out, said = await asyncio.wait_for(process.communicate(), 180)
    assert process.returncode == code, said.decode()
    return out.decode(), said.decode()


async def recorded(world: World, session_id: str, texts: list[str]) -> None:
    """A conversation, all of it archived."""
    await world.api.open(session_id)
    heard = await converse(world.api, session_id, texts)
    await world.archive.complete(ACME, session_id, heard[-1].seq or 0)


async def test_every_turn_goes_to_the_other_agent_once_and_is_compared(
    world: World, session_id: str, tmp_path: Path
) -> None:
    await recorded(world, session_id, TEXTS)
    agent, page = await another_agent(world), tmp_path / "report.html"
    order = ("rerun", "--agent", f"{agent}@1", "--session", session_id, "--run", "r1", *FAST)
    out, _ = await ran(world, *order, "--json", "--out", str(page))
    report = json.loads(out)

    assert report["ended"] == "done"
    assert [turn["content"] for turn in report["turns"]] == TEXTS
    for turn in report["turns"]:
        assert turn["recorded"]["agent"] != agent
        assert turn["rerun"]["agent"] == agent
        assert turn["rerun"]["model"] == "claude-opus-5"
        assert turn["same_outcome"], turn
    assert [turn["rerun"]["reply"] for turn in report["turns"][:2]] == [*map(reply_to, TEXTS[:2])]
    summary = report["summary"]
    assert (summary["turns"], summary["compared"], summary["same_outcome"]) == (5, 5, 5)
    assert summary["rerun"]["cost_usd"] > 0
    assert "turns compared" in page.read_text()

    shadow = f"rerun:r1:{session_id}"
    log = await world.provider.only(ACME, shadow)
    assert log.prompts == TEXTS
    view = await world.api.session(shadow)
    assert view["metadata"] == {"turnstile_rerun": "r1", "turnstile_rerun_of": session_id}
    assert view["agent"] == f"{agent}@1"

    # Begun again, the same run has nothing to send; it is the same report.
    again, _ = await ran(world, *order, "--json")
    assert json.loads(again)["turns"] == report["turns"]
    assert (await world.provider.only(ACME, shadow)).prompts == TEXTS
    _, said = await ran(world, *order[:2], "agent_of_others", *order[3:], code=1)
    assert f"run r1 was begun with agent {agent}@1" in said


async def test_a_condition_chooses_reads_only_and_never_chooses_reruns(
    world: World, session_id: str
) -> None:
    chosen, other = f"{session_id}-a", f"{session_id}-b"
    await recorded(world, chosen, [TEXTS[1]])
    await recorded(world, other, [TEXTS[0]])
    agent = await another_agent(world)
    order = ("rerun", "--agent", agent, "--run", "r2", *FAST, "--json")
    mine = f"tool_calls > 0 AND startsWith(session_id, '{session_id}') -- a remark"
    for _ in range(2):  # the second time it finds the shadow session in the archive too
        out, _ = await ran(world, *order, "--where", mine)
        assert [turn["session_id"] for turn in json.loads(out)["turns"]] == [chosen]
    _, said = await ran(world, *order, "--dry-run", "--where", f"session_id = '{other}'")
    assert "1 turns of 1 sessions" in said
    for condition in ("no_such_column = 1", "true)); DROP TABLE turns; SELECT ((1"):
        await ran(world, *order, "--where", condition, code=1)
    assert await world.archive.count("SELECT count() FROM turns") > 0


async def test_a_run_that_was_stopped_goes_on_and_sends_no_turn_twice(
    world: World, session_id: str
) -> None:
    texts = [f"Part {number} of the story." for number in range(4)]
    await recorded(world, session_id, texts)
    agent, shadow = await another_agent(world), f"rerun:r3:{session_id}"
    order = ("rerun", "--agent", agent, "--session", session_id, "--run", "r3", *FAST)
    slow = await turnstile(world, *order, "--rate", "20", "--json")
    await world.provider.prompted(ACME, shadow)
    slow.send_signal(signal.SIGINT)
    printed, said = await asyncio.wait_for(slow.communicate(), 120)
    assert slow.returncode == 130, said.decode()
    report = json.loads(printed)
    assert report["ended"] == "stopped"
    assert 0 < report["summary"]["compared"] < 4

    out, _ = await ran(world, *order, "--json")
    whole: Json = json.loads(out)
    assert (whole["ended"], whole["summary"]["compared"]) == ("done", 4)
    assert (await world.provider.only(ACME, shadow)).prompts == texts


async def test_the_budget_is_never_exceeded(world: World, session_id: str) -> None:
    names = [f"{session_id}-{letter}" for letter in "abc"]
    for name in names:
        await recorded(world, name, ["Think hard. [[script: budget rounds=2 cents=4]]"])
    agent = await another_agent(world)
    chosen = [part for name in names for part in ("--session", name)]
    order = ("rerun", "--agent", agent, *chosen, *FAST, "--sessions", "1", "--json")
    out, said = await ran(world, *order, "--budget-usd", "0.20", "--run", "r4", code=3)
    report = json.loads(out)
    assert report["ended"] == "budget"
    assert "go on with: turnstile rerun --run r4" in said
    assert report["summary"]["compared"] < 3
    spent = 0.0
    for name in names:
        for provider_session in await world.provider.of(ACME, f"rerun:r4:{name}"):
            assert provider_session
        found = await world.archive.query(
            "SELECT sum(cost_usd) FROM turn_facts WHERE session_id = {s:String}",
            s=f"rerun:r4:{name}",
        )
        spent += float(found[0][0])
    assert 0 < spent <= 0.20
    assert spent == pytest.approx(report["summary"]["rerun"]["cost_usd"])

    async def all_closed() -> bool:
        page = await world.api.get("/v1/sessions?status=archived&limit=200")
        closed = {one["session_id"] for one in page["data"]}
        done = {turn["shadow_session_id"] for turn in report["turns"] if turn["rerun"]}
        return done <= closed

    await eventually(all_closed, "finished shadow sessions are archived")
