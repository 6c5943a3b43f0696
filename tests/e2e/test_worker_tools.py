"""A custom tool that runs in the worker: its result reaches the agent once, whatever dies while it runs."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from infra.clients.gateway import Json
from infra.simulator import reply_to
from tests.e2e.api import Api
from tests.e2e.provider import Provider
from tests.e2e.tenants import ACME, KEYS
from tests.e2e.waiting import eventually
from tests.e2e.world import WORKER
from tests.stack import LocalStack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
RESULT = "user.custom_tool_result"
TEXT = "Look it up. [[script: custom_tool]]"


class Stack(NamedTuple):
    """A stack whose worker has the tool `lookup`, and the folder in which that one notes its runs."""

    stack: LocalStack
    api: Api
    provider: Provider
    folder: Path

    async def runs(self, session_id: str, count: int) -> list[tuple[str, str]]:
        """(pid, tool_use_id) of the runs for a session, once there are so many."""

        async def look() -> list[tuple[str, str]] | None:
            ledger = self.folder / "runs"
            lines = ledger.read_text(encoding="utf-8").splitlines() if ledger.exists() else []
            words = [line.split() for line in lines]
            found = [(pid, call) for pid, session, call in words if session == session_id]
            return found if len(found) >= count else None

        return await eventually(look, f"{count} runs of the tool for {session_id}")

    def go(self, session_id: str) -> None:
        """Let the tool answer."""
        (self.folder / f"go-{session_id}").touch()

    async def asked(self, session_id: str) -> None:
        """A turn whose tool runs."""
        await self.api.open(session_id)
        await self.api.say(session_id, "t1", TEXT)
        await self.runs(session_id, 1)

    async def given(self, session_id: str) -> list[Json]:
        """The results that the provider took, after the turn was completed."""
        page = await self.api.turn_in(session_id, "t1", "completed")
        assert page["reply"] == reply_to(TEXT)
        inputs = (await self.provider.only(ACME, session_id)).inputs
        return [one for one in inputs if one["type"] == RESULT]


@pytest.fixture
async def stack(strict_stack: LocalStack, ledger: Path) -> AsyncIterator[Stack]:
    api = Api(strict_stack.gateway, KEYS[ACME])
    yield Stack(strict_stack, api, Provider(strict_stack.simulator), ledger)
    await api.http.aclose()


def text(result: Json) -> tuple[str, bool]:
    [block] = result["content"]
    return block["text"], bool(result.get("is_error"))


async def test_the_worker_answers_calls_of_its_own_tools(stack: Stack) -> None:
    stack.go("plain")
    await stack.asked("plain")
    [result] = await stack.given("plain")
    assert text(result) == ("found item 0", False)
    [(_, call)] = await stack.runs("plain", 1)
    assert result["custom_tool_use_id"] == call


async def test_a_tool_that_fails_is_reported_to_the_agent(stack: Stack) -> None:
    stack.go("fail")
    await stack.asked("fail")
    [result] = await stack.given("fail")
    assert text(result) == ("LookupError: no item 0", True)


async def test_the_tool_is_run_anew_and_answered_once_when_the_worker_dies_meanwhile(
    stack: Stack,
) -> None:
    await stack.asked("killed")
    former = stack.stack.kill(WORKER, signal.SIGKILL)
    await stack.stack.back(WORKER, former)
    (first, call), (second, again) = await stack.runs("killed", 2)
    assert (int(first), call) == (former, again)
    assert int(second) == stack.stack.pid(WORKER)
    stack.go("killed")
    [result] = await stack.given("killed")
    assert text(result) == ("found item 0", False)


async def test_people_may_answer_first(stack: Stack) -> None:
    await stack.asked("people")
    await stack.api.turn_in("people", "t1", "requires_action")
    [(_, call)] = await stack.runs("people", 1)
    answer = {"custom_tool_use_id": call, "content": "by hand"}
    await stack.api.post("/v1/sessions/people/tool_results", answer)
    [result] = await stack.given("people")
    assert text(result) == ("by hand", False)
