"""GET /v1/agents, and names of agents where nothing but what is bound may be named."""

from __future__ import annotations

import pytest

from shared.session.releases import Release
from tests.unit.gateway.desk import Desk

pytestmark = pytest.mark.unit
SUPPORT = Release(
    tenant_id="", name="support", agent_id="agent_1", pinned=3, previous=2, canary=4, share=20
)


async def test_a_tenant_sees_its_own_agents_and_everybodys_and_no_other_tenants() -> None:
    desk = Desk()
    desk.releases.put(SUPPORT)
    desk.releases.put(Release(tenant_id="acme", name="coder", agent_id="agent_2", pinned=1))
    desk.releases.put(Release(tenant_id="other", name="secret", agent_id="agent_3", pinned=1))
    async with desk.client("key-a") as client:
        answer = await client.get("/v1/agents")
    assert answer.status_code == 200
    coder, support = answer.json()["data"]
    assert (coder["name"], coder["version"], coder["canary_version"]) == ("coder", 1, None)
    assert (coder["shared"], support["shared"]) == (False, True)
    assert support == {
        "name": "support",
        "agent_id": "agent_1",
        "version": 3,
        "canary_version": 4,
        "canary_share": 20,
        "previous_version": 2,
        "shared": True,
    }


async def test_a_tenants_own_agent_stands_before_everybodys_of_the_name() -> None:
    desk = Desk()
    desk.releases.put(SUPPORT)
    desk.releases.put(Release(tenant_id="acme", name="support", agent_id="agent_a", pinned=1))
    async with desk.client("key-a") as client:
        (only,) = (await client.get("/v1/agents")).json()["data"]
    assert only["agent_id"] == "agent_a"


async def test_without_agents_the_list_is_empty_and_without_a_database_it_is_503() -> None:
    desk = Desk()
    async with desk.client("key-a") as client:
        assert (await client.get("/v1/agents")).json() == {"data": []}
        desk.releases.down = True
        assert (await client.get("/v1/agents")).status_code == 503


async def test_where_unbound_ids_are_refused_a_released_name_is_taken() -> None:
    desk = Desk(unbound="refuse")
    desk.releases.put(SUPPORT)
    async with desk.client("key-a") as client:
        named = {"user_id": "u", "agent": "support"}
        assert (await client.post("/v1/sessions", json=named)).status_code == 201
        pinned = {"user_id": "u", "agent": "support@2"}
        assert (await client.post("/v1/sessions", json=pinned)).status_code == 201
        strange = await client.post("/v1/sessions", json={"user_id": "u", "agent": "agent_9"})
    assert strange.status_code == 404
