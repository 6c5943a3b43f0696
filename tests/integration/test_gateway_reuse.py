"""One session for a user, asked for by 64 at once of two gateways of two processes each."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.clickhouse_server import fresh_database
from tests.integration.gateway_process import GatewayProcess, gateway_process

pytestmark = pytest.mark.integration
AT_ONCE = 64


async def asked(gateway: GatewayProcess, user: str) -> tuple[int, str]:
    """Opened on a connection of its own, which the system gives to either process."""
    async with gateway.client() as client:
        answer = await client.post("/v1/sessions", json={"user_id": user, "reuse": "user"})
        assert answer.status_code in (200, 201), answer.text
        return answer.status_code, answer.json()["session_id"]


async def test_of_64_at_once_over_two_gateways_one_opens_it(
    kafka_bootstrap: str, postgres_url: str, clickhouse_url: str
) -> None:
    """And one opens the next, once the session was archived at one of them."""
    archive = fresh_database(clickhouse_url)
    several = {"TURNSTILE_GATEWAY_PROCESSES": "2"}
    async with (
        gateway_process(kafka_bootstrap, postgres_url, archive, **several) as one,
        gateway_process(kafka_bootstrap, postgres_url, archive, **several) as two,
    ):
        seen = set[str]()
        for _ in range(3):
            gateways = [(one, two)[number % 2] for number in range(AT_ONCE)]
            told = await asyncio.gather(*(asked(gateway, "ada") for gateway in gateways))
            assert Counter(status for status, _ in told) == {200: AT_ONCE - 1, 201: 1}
            sessions = {session for _, session in told}
            assert len(sessions) == 1
            assert not sessions & seen
            seen |= sessions
            async with one.client() as client:
                done = await client.post(f"/v1/sessions/{told[0][1]}/archive")
                assert done.status_code == 202
