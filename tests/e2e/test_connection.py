"""An MCP server that takes no credential: the turn waits, names the server, and goes on once it is connected."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from infra.clients.gateway import Json
from infra.simulator import reply_to
from tests.e2e.api import Api
from tests.e2e.provider import Provider
from tests.e2e.publishing import publishing, record
from tests.e2e.tenants import ACME
from tests.e2e.waiting import eventually
from tests.stack import LocalStack

pytestmark = pytest.mark.e2e
URL = "https://library.private.example/mcp"
ASKED = "Look it up. [[script: mcp]]"
CANARY = "canary-connection-Zq9"


@pytest.fixture(scope="module")
async def agent(local_stack: LocalStack) -> str:
    """An agent that needs the server `library`."""
    async with anthropic.AsyncAnthropic(base_url=local_stack.simulator, api_key="key") as client:
        made = await client.beta.agents.create(
            name="librarian",
            model="claude-opus-5",
            mcp_servers=[{"type": "url", "name": "library", "url": URL}],
            tools=[{"type": "mcp_toolset", "mcp_server_name": "library"}],
        )
        return made.id


def oauth(access: str, refresh: str) -> Json:
    return {
        "type": "mcp_oauth",
        "access_token": f"{CANARY}-{access}",
        "mcp_server_url": URL,
        "refresh": {
            "client_id": "client_1",
            "refresh_token": f"{CANARY}-{refresh}",
            "token_endpoint": "https://auth.example/token",
            "token_endpoint_auth": {"type": "none"},
        },
    }


def bearer(word: str) -> Json:
    return {"type": "static_bearer", "token": f"{CANARY}-{word}", "mcp_server_url": URL}


async def put(api: Api, vault: str, auth: Json) -> str:
    """The path of a credential that was put into the vault."""
    made = await api.post(f"/v1/vaults/{vault}/credentials", {"auth": auth}, 201)
    return f"/v1/vaults/{vault}/credentials/{made['credential_id']}"


async def a_vault(api: Api, **whose: str) -> str:
    made = await api.post("/v1/vaults", {"display_name": "Ada's", **whose}, 201)
    return str(made["vault_id"])


async def waits(api: Api, session_id: str, turn_id: str = "t1") -> Json:
    """What a turn waits for."""
    await api.turn_in(session_id, turn_id, "requires_action")

    async def look() -> Json | None:
        page = await api.session(session_id)
        return page["pending_actions"][0] if page["pending_actions"] else None

    action = await eventually(look, "a pending action")
    assert (action["kind"], action["name"]) == ("connection", "library")
    assert action["input"] == {"error": "mcp_authentication_failed_error"}
    return action


async def test_a_refused_credential_is_exchanged_and_the_same_turn_goes_on(
    api: Api, provider: Provider, agent: str, session_id: str
) -> None:
    vault = await a_vault(api, user_id="nobody")
    credential = await put(api, vault, bearer("refused"))
    await api.open(session_id, agent=agent, vault_ids=[vault])
    await api.say(session_id, "t1", ASKED)
    await waits(api, session_id)
    new = {"type": "static_bearer", "token": f"{CANARY}-good"}
    await api.post(f"{credential}/rotate", {"auth": new}, 200)
    page = await api.turn_in(session_id, "t1", "completed")
    assert (page["reply"], page["attempts"]) == (reply_to(ASKED), 2)
    prompts = (await provider.only(ACME, session_id)).prompts
    assert prompts == [ASKED, ASKED], "once for each attempt"
    assert (await api.settled(session_id))["pending_actions"] == []
    shown = b"".join(await api.raw_events(session_id))
    assert b"session.connection_made" in shown
    assert CANARY.encode() not in shown


async def test_a_credential_that_is_missing_may_come_in_a_new_vault(
    api: Api, provider: Provider, agent: str, session_id: str
) -> None:
    """The provider session can't have it: the turn goes on in another one."""
    user = f"u-{session_id}"
    await api.open(session_id, agent=agent, user_id=user)
    await api.say(session_id, "t1", ASKED)
    await waits(api, session_id)
    await put(api, await a_vault(api, user_id=user), bearer("good"))
    page = await api.turn_in(session_id, "t1", "completed")
    assert page["attempts"] == 3
    first, second = await provider.of(ACME, session_id)
    assert (await provider.log(first)).prompts == [ASKED, ASKED]
    assert len((await provider.log(second)).prompts) == 1


async def test_a_refresh_that_fails_in_the_middle_of_the_turn(
    api: Api, provider: Provider, agent: str, session_id: str
) -> None:
    asked = "Look it up twice. [[script: mcp rounds=2 hold=2 times=1]]"
    vault = await a_vault(api, user_id="nobody")
    credential = await put(api, vault, oauth("good", "good"))
    await api.open(session_id, agent=agent, vault_ids=[vault])
    await api.say(session_id, "t1", asked)

    async def looked_up() -> bool:
        return any(e["type"] == "agent.mcp_tool_result" for e in await api.events(session_id))

    await eventually(looked_up, "the first round")
    expired: Json = {"type": "mcp_oauth", "access_token": f"{CANARY}-expired"}
    expired["refresh"] = {"refresh_token": f"{CANARY}-refused"}
    await api.post(f"{credential}/rotate", {"auth": expired}, 200)
    (ours,) = await provider.of(ACME, session_id)
    await provider.release(ours)
    await waits(api, session_id)
    expired["access_token"] = f"{CANARY}-fresh"
    await api.post(f"{credential}/rotate", {"auth": expired}, 200)
    await provider.release(ours)  # it is held again
    page = await api.turn_in(session_id, "t1", "completed")
    assert page["attempts"] == 2
    assert (await provider.only(ACME, session_id)).prompts == [asked, asked]


async def test_it_is_denied_over_kafka_and_the_turn_names_the_server(
    api: Api, local_stack: LocalStack, agent: str, session_id: str
) -> None:
    await api.open(session_id, agent=agent, vault_ids=[])
    await api.say(session_id, "t1", ASKED)
    action = await waits(api, session_id)
    data: dict[str, Any] = {"tool_use_id": action["tool_use_id"], "result": "deny"}
    async with publishing(local_stack.kafka) as publisher:
        await publisher.publish(record("tool.confirmed", ACME, session_id, **data))
    page = await api.turn_in(session_id, "t1", "failed")
    assert page["error"]["type"] == "connection_required"
    assert "library" in page["error"]["message"]
