"""Broken connections and streams as the real SDK meets them, and how the process starts and stops."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import Any

import httpx2
import pytest
from anthropic import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    OverloadedError,
    RateLimitError,
)

from tests.integration.simulator_client import Provider, message, provided

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
async def provider() -> AsyncIterator[Provider]:
    async with provided() as it:
        yield it


@pytest.mark.parametrize(
    ("fault", "error", "landed"),
    [
        ({"kind": "respond", "status": 429, "headers": {"Retry-After": "7"}}, RateLimitError, 0),
        ({"kind": "respond", "status": 529}, OverloadedError, 0),
        ({"kind": "drop"}, APIConnectionError, 0),
        ({"kind": "land_then_drop"}, APIConnectionError, 1),
        ({"kind": "land_then_respond", "status": 503}, APIStatusError, 1),
        ({"kind": "land_then_delay", "seconds": 9}, APITimeoutError, 1),
    ],
)
async def test_a_fault_of_a_send_raises_and_lands_as_its_kind_says(
    provider: Provider, fault: Any, error: type[Exception], landed: int
) -> None:
    session = await provider.session(metadata={"fault": fault["kind"]})
    match = {"method": "POST", "path": "/events$", "session": {"fault": fault["kind"]}, "nth": 1}
    await provider.faults({"match": match, "fault": fault})
    # Only what is delayed is given up: any other answer may take its time on a busy machine.
    patience = 3 if "delay" in fault["kind"] else 60
    events = provider.client.with_options(timeout=patience).beta.sessions.events
    with pytest.raises(error) as raised:
        await events.send(session, events=[message("[[script: reply]]")])
    if isinstance(raised.value, RateLimitError):
        assert raised.value.response.headers["retry-after"] == "7"
    assert len((await provider.log(session))["user_messages"]) == landed


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("cut", None),
        ("reset", httpx2.HTTPError),
        ("truncate", httpx2.HTTPError),
        ("error_event", APIStatusError),
        ("bad_json", ValueError),
        ("silent", TimeoutError),
    ],
)
async def test_a_fault_of_a_stream_breaks_it_after_its_events(
    provider: Provider, kind: str, error: type[Exception] | None
) -> None:
    session = await provider.session()
    await provider.faults({"match": {"path": "stream$"}, "fault": {"kind": kind, "after": 2}})
    seen: list[Any] = []

    async def follow() -> None:
        async with await provider.events.stream(session) as stream:
            await provider.events.send(session, events=[message("[[script: reply]]")])
            async with asyncio.timeout(60) as patience:
                async for event in stream:
                    seen.append(event)
                    if kind == "silent" and len(seen) == 2:
                        patience.reschedule(asyncio.get_running_loop().time() + 1)

    with pytest.raises(error) if error else nullcontext():
        await follow()
    assert len(seen) == 2
    await provider.faults()


async def test_a_late_event_comes_after_the_idle(provider: Provider) -> None:
    session = await provider.session()
    match = {"method": "POST", "path": f"{session}/events$", "body": "late please", "times": 1}
    await provider.faults({"match": match, "fault": {"kind": "late_event"}})
    for text in ("[[script: reply]]", "[[script: reply]] late please", "[[script: reply]]"):
        await provider.say(session, text)
    types = [event.type async for event in provider.events.list(session)]
    after = [types[at + 1] for at, kind in enumerate(types[:-1]) if kind == "session.status_idle"]
    assert after == ["session.status_running", "session.usage"]
    rules = (await provider.http.get("/_sim/faults")).json()["rules"]
    assert (rules[0]["seen"], rules[0]["done"]) == (1, 1)
    await provider.http.delete("/_sim/faults")


async def test_the_process_starts_stops_and_says_why_not() -> None:
    command = [sys.executable, "-m", "infra.simulator", "--port", "0", "--keepalive", "60"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout
    async with asyncio.timeout(20):
        url = (await process.stdout.readline()).decode().split()[2]
        provider = Provider(url)
        await provider.furnish()
        async with await provider.events.stream(await provider.session()) as stream:
            os.kill(process.pid, signal.SIGTERM)
            assert [event async for event in stream] == []
        assert await process.wait() == 0
        wrong = await asyncio.create_subprocess_exec(
            *command[:4], url.rpartition(":")[2], "--faults", __file__,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, said = await wrong.communicate()
    assert wrong.returncode == 2
    assert b"--faults" in said
