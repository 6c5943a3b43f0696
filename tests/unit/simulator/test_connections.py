"""MCP servers that do not take a session: said, fatal to what needs them, and tried anew with the next message."""

from __future__ import annotations

from typing import Any

import pytest

from infra.simulator.connections import Credential
from tests.unit.simulator.provider import Client, a_world, message

pytestmark = pytest.mark.unit

LIBRARY = "https://library.private.example/mcp"
NEEDS = "look it up [[script: mcp]]"


def a_client(token: str | None = "good", url: str = LIBRARY, at: str = LIBRARY) -> Client:
    """A session with one vault, in which is a credential for `url` unless `token` is None."""
    world = a_world()
    server = {"type": "url", "name": "library", "url": at}
    world.agents["agent_1"].versions[0]["mcp_servers"] = [server]
    world.vaults["vlt_1"] = {"id": "vlt_1", "archived_at": None}
    world.credentials["vlt_1"] = {}
    if token is not None:
        world.credentials["vlt_1"]["vcrd_1"] = credential(token, url)
    return Client(world, vault_ids=["vlt_1"])


def credential(token: str, url: str = LIBRARY, refresh: str = "") -> Credential:
    body = {"auth": {"type": "mcp_oauth", "mcp_server_url": url}, "archived_at": None}
    secrets = {"access_token": token, **({"refresh_token": refresh} if refresh else {})}
    return Credential(body, secrets)


def errors(client: Client) -> list[Any]:
    return [event["error"] for event in client.seen if event["type"] == "session.error"]


async def test_a_turn_that_needs_a_server_that_refuses_it_dies() -> None:
    client = a_client("refused")
    client.send(message(NEEDS))
    await client.idle("retries_exhausted")
    (error,) = errors(client)
    assert error["type"] == "mcp_authentication_failed_error"
    assert (error["mcp_server_name"], error["retry_status"]["type"]) == ("library", "exhausted")
    assert "refused" not in error["message"], "no word of the secret"


async def test_with_another_credential_the_next_message_goes_through() -> None:
    client = a_client("refused")
    client.send(message(NEEDS))
    await client.idle("retries_exhausted")
    client.world.credentials["vlt_1"]["vcrd_1"].secrets["access_token"] = "good"
    client.send(message(NEEDS))
    await client.idle("end_turn")
    assert len(errors(client)) == 1


@pytest.mark.parametrize(
    ("client", "kind"),
    [
        (a_client(None), "mcp_authentication_failed_error"),
        (a_client(url="https://other.example/mcp"), "mcp_authentication_failed_error"),
        (a_client(at="https://unreachable.example"), "mcp_connection_failed_error"),
    ],
    ids=["none", "for another server", "unreachable"],
)
async def test_other_reasons(client: Client, kind: str) -> None:
    client.send(message(NEEDS))
    await client.idle("retries_exhausted")
    assert [error["type"] for error in errors(client)] == [kind]


@pytest.mark.parametrize("url", ["https://LIBRARY.private.example:443/mcp/", LIBRARY])
async def test_a_credential_is_found_by_the_normal_form_of_its_url(url: str) -> None:
    client = a_client("good", url)
    client.send(message(NEEDS))
    await client.idle("end_turn")
    assert errors(client) == []


async def test_a_server_that_takes_everybody_needs_no_credential() -> None:
    client = a_client(None, at="https://library.example/mcp")
    client.send(message(NEEDS))
    await client.idle("end_turn")


async def test_an_agent_that_does_not_need_it_goes_on_without() -> None:
    client = a_client("refused")
    client.send(message("hello [[script: reply]]"))
    await client.idle("end_turn")
    assert [error["retry_status"]["type"] for error in errors(client)] == ["exhausted"]


async def test_a_refresh_that_fails_in_the_middle_ends_the_turn() -> None:
    client = a_client()
    client.send(message("look it up twice [[script: mcp rounds=2 hold=2]]"))
    await client.until(lambda event: event["type"] == "agent.mcp_tool_result")
    expired = credential("expired", refresh="refused")
    client.world.credentials["vlt_1"]["vcrd_1"] = expired
    client.session.releases += 1
    client.session.nudge.set()
    await client.idle("retries_exhausted")
    assert len(errors(client)) == 1


async def test_one_that_has_run_out_is_refreshed() -> None:
    client = a_client(None)
    client.world.credentials["vlt_1"]["vcrd_1"] = credential("expired", refresh="good")
    client.send(message(NEEDS))
    await client.idle("end_turn")
