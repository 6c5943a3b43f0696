"""Two tenants that name each other's things, by HTTP and by Kafka: not there, and nothing of it reaches the
provider."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from shared.ownership import Binding
from shared.tables.owned import bound
from tests.e2e.api import Api
from tests.e2e.provider import Provider
from tests.e2e.publishing import Sent, dead_letters, publishing, record, turn
from tests.e2e.tenants import ACME, KEYS, UMBRA
from tests.e2e.waiting import eventually
from tests.stack import LocalStack

pytestmark = pytest.mark.e2e
Things = dict[str, str]
Ask = Callable[[Things], dict[str, Any]]


def file_block(things: Things) -> list[dict[str, Any]]:
    return [{"type": "document", "source": {"type": "file", "file_id": things["file"]}}]


def rubric(things: Things) -> dict[str, Any]:
    return {"description": "a page", "rubric": {"type": "file", "file_id": things["file"]}}


# What a session may name, and what a turn may: the fields, and the one that is told to be wrong.
OF_SESSIONS: dict[str, tuple[Ask, str]] = {
    "a vault": (lambda of: {"vault_ids": [of["vault"]]}, "vault_ids[0]"),
    "an agent": (lambda of: {"agent": of["agent"]}, "agent"),
    "an agent's version": (lambda of: {"agent": f"{of['agent']}@1"}, "agent"),
    "a file": (
        lambda of: {"resources": [{"type": "file", "file_id": of["file"]}]},
        "resources[0].file_id",
    ),
    "a memory store": (
        lambda of: {"resources": [{"type": "memory_store", "memory_store_id": of["memory_store"]}]},
        "resources[0].memory_store_id",
    ),
}
OF_TURNS: dict[str, tuple[Ask, str]] = {
    "a file in its content": (
        lambda of: {"content": file_block(of)},
        "content[0].source.file_id",
    ),
    "a file as a rubric": (lambda of: {"outcome": rubric(of)}, "outcome.rubric.file_id"),
}
# Environments are the installation's: there is no field that names one.
NO_FIELD: dict[str, Ask] = {
    "an environment": lambda of: {"environment_id": of["environment"]},
    "an agent's environment": lambda of: {"environment": of["environment"]},
}


@pytest.fixture(scope="module")
async def things(
    local_stack: LocalStack, api: Api, umbra: Api, provider: Provider
) -> dict[str, Things]:
    """What each tenant has of every kind, at the provider and here."""
    return {
        ACME: await things_of(local_stack, api, provider, ACME),
        UMBRA: await things_of(local_stack, umbra, provider, UMBRA),
    }


async def things_of(stack: LocalStack, api: Api, provider: Provider, tenant: str) -> Things:
    """A vault, a file and a memory store that the tenant named first, and an agent and an environment that somebody
    bound to it."""
    agent, environment = await provider.agent(tenant), await provider.environment(tenant)
    file, store = await provider.file(), await provider.memory_store()
    vault = (await api.post("/v1/vaults", {"display_name": "tools"}, 201))["vault_id"]
    engine = create_async_engine(stack.database_url)
    async with engine.begin() as connection:
        await bound(
            connection,
            [
                Binding(kind="agent", id=agent, tenant_id=tenant),
                Binding(kind="environment", id=environment, tenant_id=tenant),
            ],
        )
    await engine.dispose()
    own = {
        "vault": vault,
        "agent": agent,
        "environment": environment,
        "file": file,
        "memory_store": store,
    }
    # All of it is good for its own tenant: what is refused to the other is not refused for another reason.
    session = f"own-{tenant}"
    fields = {name: value for ask, _ in OF_SESSIONS.values() for name, value in ask(own).items()}
    await api.open(session, **{**fields, "resources": _both(own)})
    await api.say(session, "t1", file_block(own))
    assert (await api.ended(session, "t1"))["status"] == "completed"
    await api.settled(session)
    return own


def _both(own: Things) -> list[dict[str, Any]]:
    asks = ("a file", "a memory store")
    return [one for name in asks for one in OF_SESSIONS[name][0](own)["resources"]]


async def refused(api: Api, path: str, body: dict[str, Any]) -> httpx2.Response:
    return await api.http.post(path, json=body)


async def buried(stack: LocalStack, sent: list[Sent]) -> list[dict[str, str]]:
    """The marks of the records, all of them dead letters."""
    async with publishing(stack.kafka) as publisher:
        places = [await publisher.publish(one) for one in sent]

    async def look() -> list[dict[str, str]] | None:
        found = {one.marks.get("source", ""): one.marks for one in await dead_letters(stack.kafka)}
        return [found[place] for place in places] if found.keys() >= set(places) else None

    return await eventually(look, "all of them among the dead letters")


@pytest.mark.parametrize(("thief", "owner"), [(ACME, UMBRA), (UMBRA, ACME)])
async def test_over_http_nothing_of_the_others_is_there(
    local_stack: LocalStack,
    api: Api,
    umbra: Api,
    provider: Provider,
    things: dict[str, Things],
    thief: str,
    owner: str,
) -> None:
    client, theirs = {ACME: api, UMBRA: umbra}[thief], things[owner]
    before = await provider.posts()
    for name, (ask, field) in OF_SESSIONS.items():
        body = {"user_id": "u1", "session_id": f"{thief}-steals", **ask(theirs)}
        require_absent(await refused(client, "/v1/sessions", body), field, name)
    for name, (ask, field) in OF_TURNS.items():
        path = f"/v1/sessions/own-{thief}/turns"
        require_absent(await refused(client, path, ask(theirs)), field, name)
    path = f"/v1/sessions/own-{thief}/tool_results"
    answer = {"custom_tool_use_id": "sevt_1", "content": file_block(theirs)}
    require_absent(await refused(client, path, answer), "content[0].source.file_id", "a result")
    for name, ask in NO_FIELD.items():
        body = {"user_id": "u1", "session_id": f"{thief}-steals", **ask(theirs)}
        assert (await refused(client, "/v1/sessions", body)).status_code == 400, name
    for path in (f"/v1/vaults/{theirs['vault']}", f"/v1/vaults/{theirs['vault']}/credentials"):
        assert (await client.http.get(path)).status_code == 404
    assert (await client.http.delete(f"/v1/vaults/{theirs['vault']}")).status_code == 404
    listed = {one["vault_id"] for one in (await client.get("/v1/vaults"))["data"]}
    assert theirs["vault"] not in listed
    assert things[thief]["vault"] in listed
    assert (await client.http.get(f"/v1/sessions/{thief}-steals")).status_code == 404
    await unmoved(provider, thief, before)


@pytest.mark.parametrize(("thief", "owner"), [(ACME, UMBRA), (UMBRA, ACME)])
async def test_over_kafka_each_is_a_dead_letter(
    local_stack: LocalStack,
    api: Api,
    umbra: Api,
    provider: Provider,
    things: dict[str, Things],
    thief: str,
    owner: str,
) -> None:
    client, theirs = {ACME: api, UMBRA: umbra}[thief], things[owner]
    before = await provider.posts()
    asked: list[tuple[Sent, str, str]] = []
    for number, (ask, field) in enumerate(OF_SESSIONS.values()):
        session = f"{thief}-steals-{number}"
        asked.append(
            (
                record("session.requested", thief, session, user_id="u1", **ask(theirs)),
                "unknown_reference",
                field,
            )
        )
    for number, (ask, field) in enumerate(OF_TURNS.values()):
        data = {"user_id": "u1", "turn_id": f"stolen-{number}", **ask(theirs)}
        asked.append(
            (record("turn.requested", thief, f"own-{thief}", **data), "unknown_reference", field)
        )
    named = turn(thief, f"{thief}-steals-9", "t1", "hello", agent=theirs["agent"])
    asked.append((named, "unknown_reference", "agent"))
    for ask in NO_FIELD.values():
        fields = ask(theirs)
        data = {"user_id": "u1", **fields}
        sent = record("session.requested", thief, f"{thief}-steals-8", **data)
        asked.append((sent, "invalid_field", next(iter(fields))))
    marks = await buried(local_stack, [sent for sent, _, _ in asked])
    for mark, (_, reason, field) in zip(marks, asked, strict=True):
        assert (mark["reason"], mark["detail"].endswith(f" - at `$.{field}`")) == (reason, True), (
            mark
        )
    await unmoved(provider, thief, before)
    # Not shown either, however long one waits.
    await client.say(f"own-{thief}", "t2", "hello")
    await client.ended(f"own-{thief}", "t2")
    await client.settled(f"own-{thief}")
    for number in range(10):
        path = f"/v1/sessions/{thief}-steals-{number}"
        assert (await client.http.get(path)).status_code == 404
    for number in range(len(OF_TURNS)):
        path = f"/v1/sessions/own-{thief}/turns/stolen-{number}"
        assert (await client.http.get(path)).status_code == 404


def require_absent(answer: httpx2.Response, field: str, name: str) -> None:
    assert answer.status_code == 404, name
    problem = answer.json()
    assert problem["type"] == "urn:turnstile:problem:unknown_reference", name
    assert [error["field"] for error in problem["errors"]] == [field]
    assert not any(tenant in answer.text for tenant in KEYS), name


async def unmoved(provider: Provider, thief: str, before: set[tuple[str, str]]) -> None:
    """Nothing was made, changed or sent at the provider meanwhile: the stack has no other work."""
    assert await provider.posts() - before == set()
    made = [
        mark for mark in await provider.messages() if mark.startswith(f"{thief}/{thief}-steals")
    ]
    assert made == []
