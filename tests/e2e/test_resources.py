"""Files, a repository and memory through the whole stack: in each provider session, listed by each turn, and paid
as the provider says."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.api import Api
from tests.e2e.archive import Archive
from tests.e2e.provider import Provider
from tests.e2e.publishing import publishing, record, turn
from tests.e2e.tenants import ACME
from tests.stack import LocalStack

pytestmark = pytest.mark.e2e
SHOP: dict[str, Any] = {
    "type": "github_repository",
    "url": "https://github.com/acme/shop.git",
    "checkout": {"type": "branch", "name": "main"},
}


async def given(provider: Provider) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What a session asks for, and what its turns say of it."""
    file, store = await provider.file(), await provider.memory_store()
    asked: list[dict[str, Any]] = [
        {"type": "file", "file_id": file},
        SHOP,
        {"type": "memory_store", "memory_store_id": store, "instructions": "read it first"},
    ]
    told = [
        {**asked[0], "mount_path": f"/mnt/session/uploads/{file}"},
        {**SHOP, "mount_path": "/workspace/shop"},
        {"type": "memory_store", "memory_store_id": store},
    ]
    return asked, told


def made_with(resources: list[dict[str, Any]]) -> list[tuple[str, str]]:
    ids = ("file_id", "url", "memory_store_id")
    return [
        (one["type"], next(one[name] for name in ids if name in one))
        for one in resources
        if one["mount_path"]
    ]


async def asked_over_kafka(stack: LocalStack, session: str, asked: Any) -> None:
    async with publishing(stack.kafka) as publisher:
        await publisher.publish(
            record("session.requested", ACME, session, user_id="u1", resources=asked)
        )
        await publisher.publish(turn(ACME, session, "t1", "hello [[script: reply]]"))


async def listed(archive: Archive, session: str) -> list[tuple[Any, ...]]:
    columns = "turn_id, kind, resource_id, mount_path, in_content"
    where = "tenant_id = {tenant:String} AND session_id = {session:String}"
    sql = f"SELECT {columns} FROM turn_resources WHERE {where} ORDER BY turn_id, kind, resource_id"
    return [tuple(row) for row in await archive.query(sql, tenant=ACME, session=session)]


@pytest.mark.parametrize("way", ["http", "kafka"])
async def test_a_turn_runs_with_the_resources_of_its_session_and_says_so(
    local_stack: LocalStack,
    api: Api,
    archive: Archive,
    provider: Provider,
    session_id: str,
    way: str,
) -> None:
    asked, told = await given(provider)
    if way == "http":
        opened = await api.open(session_id, resources=asked)
        assert opened["resources"] == asked
        await api.say(session_id, "t1", "hello [[script: reply]]")
    else:
        await asked_over_kafka(local_stack, session_id, asked)
    assert (await api.ended(session_id, "t1"))["resources"] == told
    more = await provider.file("b.csv")
    block = {"type": "document", "source": {"type": "file", "file_id": more}}
    await api.say(session_id, "t2", [{"type": "text", "text": "[[script: tools]]"}, block])
    page = await api.ended(session_id, "t2")
    assert page["status"] == "completed"
    assert page["resources"] == [*told, {"type": "file", "file_id": more}]
    page = await api.settled(session_id)
    assert page["resources"] == asked
    (made,) = await provider.of(ACME, session_id)
    shown = await provider.resources(made)
    assert [(one["type"], one.get("mount_path")) for one in shown] == [
        ("file", told[0]["mount_path"]),
        ("github_repository", "/workspace/shop"),
        ("memory_store", "/mnt/memory/wishes"),
    ]
    assert shown[2]["instructions"] == "read it first"
    await archive.complete(ACME, session_id, page["last_seq"])
    rows = [
        ("file", told[0]["file_id"], told[0]["mount_path"], False),
        ("github_repository", SHOP["url"], "/workspace/shop", False),
        ("memory_store", told[2]["memory_store_id"], "", False),
    ]
    content = ("file", more, "", True)
    second = sorted([*rows, content], key=lambda row: (row[0], row[1]))
    assert await listed(archive, session_id) == [
        *(("t1", *row) for row in rows),
        *(("t2", *row) for row in second),
    ]
    # Files are tokens of the requests that read them: what the provider bills is what the turns cost.
    cents = await provider.list_cost(made)
    assert page["billed_usd"] == cents / 100
    assert 0 < page["cost_usd"] == pytest.approx(cents / 100, abs=0.01)
    turns = [(await api.turn(session_id, name))["cost_usd"] for name in ("t1", "t2")]
    assert sum(turns) == pytest.approx(page["cost_usd"], abs=1e-6)


async def test_the_provider_session_that_takes_over_has_the_same(
    api: Api, provider: Provider, session_id: str
) -> None:
    asked, told = await given(provider)
    await api.open(session_id, resources=asked)
    await api.say(session_id, "t1", "[[script: terminal times=1]]")
    page = await api.ended(session_id, "t1")
    assert (page["status"], page["resources"]) == ("completed", told)
    first, second = await provider.of(ACME, session_id)
    kept = made_with(await provider.resources(second))
    assert kept == made_with(await provider.resources(first))
    assert [kind for kind, _ in kept] == ["file", "github_repository", "memory_store"]


async def test_a_file_that_is_not_there_fails_the_turn_with_one_create(
    api: Api, provider: Provider, session_id: str
) -> None:
    await api.open(session_id, resources=[{"type": "file", "file_id": f"file_{session_id[-9:]}"}])
    before = await provider.creates()
    await api.say(session_id, "t1", "hello")
    page = await api.ended(session_id, "t1")
    assert (page["status"], page["error"]["type"]) == ("failed", "file_not_found")
    assert len(await provider.creates() - before) == 1


async def test_a_repositorys_token_is_not_taken_and_lies_nowhere(
    local_stack: LocalStack, api: Api, session_id: str
) -> None:
    resources = [{**SHOP, "authorization_token": "ghp_never_to_be_seen"}]
    body = {"user_id": "u1", "session_id": session_id, "resources": resources}
    answer = await api.http.post("/v1/sessions", json=body)
    assert answer.status_code == 400
    assert "never_to_be_seen" not in answer.text
    (error,) = answer.json()["errors"]
    assert error["field"] == "resources[0].authorization_token"
    assert "vault" in error["message"]
    assert (await api.http.get(f"/v1/sessions/{session_id}")).status_code == 404
