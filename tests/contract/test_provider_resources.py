"""Sessions have their resources at the provider, each time one is made for them; and a server that has no files is
found out before any turn."""

from __future__ import annotations

import time
from typing import Any

import pytest
from msgspec.structs import replace

from infra.simulator.server import running
from infra.simulator.settings import LACKS, Settings
from services.agent_worker.provider.anthropic import connect
from services.agent_worker.provider.lacking import require_served
from services.agent_worker.provider.opening import Openings
from services.agent_worker.provider.parts import Parts
from shared.errors import WrongSetting
from shared.session.resources import (
    Branch,
    FileResource,
    MemoryResource,
    RepositoryResource,
    Resource,
)
from tests.contract.provider_talk import Talk
from tests.contract.provider_worlds import WireWorld
from tests.contract.test_provider_refusals import refused
from tests.fakes.releases import MemoryReleases

pytestmark = pytest.mark.contract
SHOP = RepositoryResource(
    url="https://github.com/acme/shop", checkout=Branch(name="main"), mount_path="/workspace/shop"
)
FILE = FileResource(file_id="file_nope")
STORE = MemoryResource(memory_store_id="memstore_nope")


async def given(world: WireWorld) -> tuple[FileResource, MemoryResource]:
    """A file and a memory store that are there."""
    file = await world.client.beta.files.upload(file=("a.csv", b"a,b\n", "text/csv"))
    store = await world.client.beta.memory_stores.create(name="wishes")
    return (
        FileResource(file_id=file.id, mount_path="/data/a.csv"),
        MemoryResource(memory_store_id=store.id, access="read_only", instructions="read it"),
    )


async def shown(world: WireWorld, id: str) -> list[Any]:
    found = await world.client.beta.sessions.retrieve(id)
    return [one.to_dict(mode="json") for one in found.resources]


async def test_each_provider_session_has_what_the_session_was_asked_to_have(
    healed: WireWorld,
) -> None:
    file, store = await given(healed)
    talk = Talk(healed)
    talk.ask("hello")
    talk.state = replace(talk.state, resources=(file, SHOP, store))
    first = await healed.provider.open(talk.state, look=False)
    second = await healed.provider.open(talk.state, look=False)  # as after a rotation
    for made in (first, second):
        a, b, c = await shown(healed, made.id)
        assert (a["file_id"], a["mount_path"]) == (file.file_id, "/data/a.csv")
        assert (b["url"], b["checkout"]) == (SHOP.url, {"type": "branch", "name": "main"})
        assert (c["memory_store_id"], c["access"]) == (store.memory_store_id, "read_only")
        assert c["instructions"] == "read it"
    assert first.id != second.id


async def test_a_session_that_asked_for_none_has_none(healed: WireWorld) -> None:
    made = await Talk(healed).open()
    assert await shown(healed, made.id) == []


@pytest.mark.parametrize(
    ("resource", "reason"),
    [(FILE, "file_not_found"), (STORE, "memory_store_not_found")],
)
async def test_one_that_is_not_there_is_told_at_the_first_try(
    healed: WireWorld, resource: Resource, reason: str
) -> None:
    file, store = await given(healed)
    failure, count, seconds = await refused(healed, resources=(file, store, SHOP, resource))
    assert (failure.reason, failure.final, failure.lost, count) == (reason, True, False, 1)
    assert "nope" in failure.detail
    assert file.file_id not in failure.detail
    assert seconds < 2


async def test_a_store_that_is_archived_is_told_too(healed: WireWorld) -> None:
    _, store = await given(healed)
    await healed.client.beta.memory_stores.archive(store.memory_store_id)
    failure, count, _ = await refused(healed, resources=(store,))
    assert (failure.reason, failure.final, count) == ("memory_store_archived", True, 1)


async def test_a_server_without_files_is_found_out_unless_the_settings_say_so() -> None:
    async with running(Settings(port=0, without=frozenset(LACKS))) as url:
        client = connect(api_key="key", base_url=url, sessions=1)
        with pytest.raises(WrongSetting, match=r"TURNSTILE_PROVIDER_WITHOUT.*Files API"):
            await require_served(client, ())
        await require_served(client, ("files", "mcp_oauth", "cloud"))
        await client.close()


async def test_on_a_server_without_cloud_environments_the_one_that_is_made_is_none() -> None:
    async with running(Settings(port=0, without=frozenset(LACKS))) as url:
        client = connect(api_key="key", base_url=url, sessions=1)
        parts = Parts(
            client,
            agent=None,
            environment=None,
            model="claude-sonnet-5",
            releases=MemoryReleases(),
            cloud=False,
        )
        talk = Talk(WireWorld(url))
        talk.ask("hello")
        made = await Openings(client, parts).open(talk.state, look=False)
        (environment,) = (await client.beta.environments.list()).data
        found = await client.beta.sessions.retrieve(made.id)
        assert found.environment_id == environment.id
        assert environment.config.type == "self_hosted"
        await client.close()


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "respond", "status": 500},
        {"kind": "respond", "status": 403},
        {"kind": "drop"},
        {"kind": "delay", "seconds": 30.0},
    ],
)
async def test_a_server_that_says_nothing_of_files_holds_no_worker_up(
    healed: WireWorld, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any]
) -> None:
    monkeypatch.setattr("services.agent_worker.provider.lacking.SECONDS", 0.5)
    await healed.rules({"match": {"path": "/v1/files"}, "fault": fault})
    began = time.monotonic()
    await require_served(healed.client, ())
    assert time.monotonic() - began < 3
