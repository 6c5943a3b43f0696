"""The curl tour of the README, run by sh as it stands, and the archive's side of it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from infra.clients.gateway import Json, Received, received
from infra.simulator import reply_to
from tests.e2e.api import Api
from tests.e2e.archive import Archive
from tests.e2e.examples import example, run
from tests.e2e.tenants import ACME, KEYS
from tests.stack import LocalStack

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on this machine"),
]
TEXT = "What is a turnstile?"


@pytest.fixture(scope="module")
async def printed(local_stack: LocalStack) -> str:
    """All the tour prints; its stages are parted by the empty lines that end its JSON."""
    tour = example("README.md", "tour.sh")
    return await run("sh", "-eu", "-c", tour, KEY=KEYS[ACME], GATEWAY=local_stack.gateway)


def _json(printed: str, fits: Callable[[Json], bool]) -> Json:
    """The only line of JSON that fits."""
    lines = [line for line in printed.splitlines() if line.startswith("{")]
    found = [body for body in map(json.loads, lines) if fits(body)]
    assert len(found) == 1, found
    return dict(found[0])


async def _streams(printed: str) -> list[list[Received]]:
    """The three streams of the tour, told apart by their numbers starting anew or with JSON between."""
    kept = "\n".join("" if line.startswith("{") else line for line in printed.splitlines())

    async def chunks() -> AsyncIterator[bytes]:
        yield kept.encode() + b"\n\n"

    streams: list[list[Received]] = [[]]
    async for event in received(chunks()):
        last = [one.seq for one in streams[-1] if one.seq is not None]
        if event.seq is not None and last and event.seq <= last[-1]:
            streams.append([])
        streams[-1].append(event)
    return streams


async def test_the_session_and_the_turn_are_accepted(printed: str) -> None:
    opened = _json(printed, lambda body: "user_id" in body and body.get("last_seq") == 0)
    assert (opened["session_id"], opened["user_id"], opened["status"]) == (
        "ses_tour",
        "ada",
        "idle",
    )
    turn = {"turn_id": "t1", "session_id": "ses_tour", "status": "accepted"}
    assert _json(printed, lambda body: body.get("status") == "accepted") == turn


async def test_the_streams_tell_the_turn_live_from_eight_on_and_again(
    api: Api, printed: str
) -> None:
    live, resumed, replayed = await _streams(printed)
    stored = await api.events("ses_tour")
    facts = [event for event in live if event.seq is not None]
    assert [event.body for event in facts] == stored
    assert [event.body for event in resumed] == stored[8:]
    *again, end = replayed
    assert end.type == "end"
    assert [event.body for event in again] == stored
    assert stored[-1]["type"] == "session.idled"


async def test_the_turn_is_shown_with_its_reply(printed: str) -> None:
    turn = _json(printed, lambda body: "reply" in body)
    assert (turn["status"], turn["reply"]) == ("completed", reply_to(TEXT))


async def test_the_session_is_shown_as_it_was_at_three(printed: str) -> None:
    then = _json(printed, lambda body: body.get("last_seq") == 3)
    assert (then["status"], then["open_turn"]) == ("running", "t1")


async def test_the_operators_replay_reads_the_same_from_the_archive(
    local_stack: LocalStack, api: Api, archive: Archive, printed: str
) -> None:
    last = (await api.session("ses_tour"))["last_seq"]
    await archive.complete(ACME, "ses_tour", last)
    turnstile = str(Path(sys.executable).with_name("turnstile"))
    argv = (turnstile, "replay", "ses_tour", "--tenant", ACME, "--json")
    lines = (await run(*argv, TURNSTILE_CLICKHOUSE_URL=local_stack.clickhouse_url)).splitlines()
    told = [(event["seq"], event["type"], event["data"]) for event in map(json.loads, lines)]
    stored = await api.events("ses_tour")
    assert told == [(event["seq"], event["type"], event["data"]) for event in stored]
