"""A gateway of several processes: one port, one answer, one account of what was done."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.clickhouse_server import fresh_database
from tests.integration.gateway_process import GatewayProcess, gateway_process

pytestmark = pytest.mark.integration
TURNS = "/v1/sessions/ses_1/turns"
PROCESSES = 2


@pytest.fixture
async def gateway(
    kafka_bootstrap: str, postgres_url: str, clickhouse_url: str
) -> AsyncIterator[GatewayProcess]:
    several = {"TURNSTILE_GATEWAY_PROCESSES": str(PROCESSES)}
    archive = fresh_database(clickhouse_url)
    async with gateway_process(kafka_bootstrap, postgres_url, archive, **several) as one:
        async with one.client() as client:
            await client.post("/v1/sessions", json={"user_id": "u1", "session_id": "ses_1"})
        yield one


def children(gateway: GatewayProcess) -> list[int]:
    """The pids of the processes that the first one started."""
    pid = gateway.process.pid
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def posted(gateway: GatewayProcess, turn_id: str) -> int:
    """A turn on a connection of its own, which the system gives to either process."""
    async with gateway.client() as client:
        answer = await client.post(TURNS, json={"content": "a", "turn_id": turn_id})
        return answer.status_code


async def read(gateway: GatewayProcess, turn_id: str) -> int:
    async with gateway.client() as client:
        return (await client.get(f"{TURNS}/{turn_id}")).status_code


async def test_whichever_process_is_asked_answers_for_all(gateway: GatewayProcess) -> None:
    assert len(children(gateway)) == PROCESSES
    turns = [f"t{number}" for number in range(20)]
    assert set(await asyncio.gather(*(posted(gateway, turn) for turn in turns))) == {202}
    assert set(await asyncio.gather(*(read(gateway, turn) for turn in turns))) == {200}
    assert await read(gateway, "never") == 404
    accepted = 'turnstile_inputs_published_total{type="turn.requested"} 20.0'
    for _ in range(4):
        async with gateway.client() as client:
            text = (await client.get("/metrics")).text
            assert accepted in text
            assert "turnstile_inputs_projected_total 0.0" not in text
            ready = await client.get("/readyz")
        assert (ready.status_code, set(ready.json()["dependencies"])) == (
            200,
            {"kafka", "database", "clickhouse"},
        )


async def test_they_stop_in_good_order(gateway: GatewayProcess) -> None:
    pids = children(gateway)
    assert await gateway.stop() < 10
    assert not any(map(runs, pids))


async def test_without_its_tables_process_it_ends_and_is_to_be_started_again(
    gateway: GatewayProcess,
) -> None:
    os.kill(children(gateway)[-1], signal.SIGKILL)
    assert await asyncio.wait_for(gateway.process.wait(), 15) == 1
