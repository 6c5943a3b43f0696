"""A provider of one's own, of the same API without files, OAuth credentials and cloud environments: what needs them
is refused when it is asked for, and a worker that was not told does not start."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from infra.simulator.server import running
from infra.simulator.settings import LACKS, Settings
from tests.e2e.api import Api
from tests.e2e.provider import Provider
from tests.e2e.publishing import dead_letters, publishing, record, turn
from tests.e2e.tenants import ACME, KEYS
from tests.e2e.waiting import eventually
from tests.stack import LocalStack, running_stack

pytestmark = pytest.mark.e2e
FILE = {"type": "file", "file_id": "file_1"}
BLOCK = [{"type": "document", "source": FILE}]


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[str]:
    async with running(Settings(port=0, without=frozenset(LACKS))) as url:
        yield url


@pytest.fixture(scope="module")
async def stack(server: str) -> AsyncIterator[LocalStack]:
    told = {
        "TURNSTILE_API_KEYS": f"{KEYS[ACME]}:{ACME}",
        "ANTHROPIC_BASE_URL": server,
        "ANTHROPIC_API_KEY": "any",
        "TURNSTILE_PROVIDER_WITHOUT": "files,mcp_oauth,cloud",
    }
    async with running_stack(**told) as stack:
        yield stack


@pytest.fixture(scope="module")
async def own(stack: LocalStack) -> AsyncIterator[Api]:
    client = Api(stack.gateway, KEYS[ACME])
    yield client
    await client.http.aclose()


def require_absent(answer: httpx2.Response, field: str) -> None:
    assert answer.status_code == 404, answer.text
    (error,) = answer.json()["errors"]
    assert error == {"field": field, "message": "this provider has no files: leave it out"}


async def test_turns_run_and_what_needs_files_is_refused_as_it_is_asked_for(
    own: Api, stack: LocalStack, server: str
) -> None:
    provider = Provider(server)
    store = await provider.memory_store()
    await own.open("ses_1", resources=[{"type": "memory_store", "memory_store_id": store}])
    await own.say("ses_1", "t1", "hello")
    assert (await own.ended("ses_1", "t1"))["status"] == "completed"
    await own.settled("ses_1")
    before = await provider.posts()
    body = {"user_id": "u1", "resources": [FILE]}
    require_absent(await own.http.post("/v1/sessions", json=body), "resources[0].file_id")
    answer = await own.http.post("/v1/sessions/ses_1/turns", json={"content": BLOCK})
    require_absent(answer, "content[0].source.file_id")
    async with publishing(stack.kafka) as publisher:
        sent = [
            await publisher.publish(record("session.requested", ACME, "ses_2", **body)),
            await publisher.publish(turn(ACME, "ses_1", "t2", BLOCK)),
        ]

    async def buried() -> list[dict[str, str]] | None:
        found = {one.marks["source"]: one.marks for one in await dead_letters(stack.kafka)}
        return [found[place] for place in sent] if found.keys() >= set(sent) else None

    for marks in await eventually(buried, "both among the dead letters"):
        assert marks["reason"] == "unknown_reference"
        assert "this provider has no files" in marks["detail"]
    assert await provider.posts() == before


async def test_an_oauth_credential_is_refused_and_a_bearer_is_not(own: Api) -> None:
    vault = (await own.post("/v1/vaults", {"display_name": "tools"}, 201))["vault_id"]
    path, url = f"/v1/vaults/{vault}/credentials", "https://mcp.example"
    oauth: dict[str, Any] = {"type": "mcp_oauth", "access_token": "x", "mcp_server_url": url}
    answer = await own.http.post(path, json={"auth": oauth})
    assert answer.status_code == 400, answer.text
    assert "takes no mcp_oauth credentials" in answer.text
    bearer = {"type": "static_bearer", "token": "x", "mcp_server_url": url}
    assert (await own.http.post(path, json={"auth": bearer})).status_code == 201


async def test_a_worker_that_was_not_told_does_not_start_and_says_why(
    stack: LocalStack, server: str
) -> None:
    environment = {
        **os.environ,
        "TURNSTILE_KAFKA_BOOTSTRAP": stack.kafka,
        "TURNSTILE_DATABASE_URL": stack.database_url,
        "TURNSTILE_CLICKHOUSE_URL": stack.clickhouse_url,
        "TURNSTILE_TENANTS": ACME,
        "ANTHROPIC_BASE_URL": server,
        "ANTHROPIC_API_KEY": "any",
    }
    environment.pop("TURNSTILE_PROVIDER_WITHOUT", None)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.agent_worker.main"),
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 2, said.decode()[-2000:]
    assert b"TURNSTILE_PROVIDER_WITHOUT: the server at ANTHROPIC_BASE_URL has no Files API" in said
