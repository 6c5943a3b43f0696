"""What a session is made with besides agent and environment is looked up, and what a server may lack is lacking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from infra.simulator.api.app import build
from infra.simulator.faults.rules import Faults
from infra.simulator.settings import LACKS, parse
from tests.unit.simulator.provider import a_world, message

pytestmark = pytest.mark.unit
HEADERS = {
    "anthropic-beta": "managed-agents-2026-04-01",
    "anthropic-version": "2026-10-21",
    "x-api-key": "k",
}
FILE = {"file": ("a.csv", b"a,b\n", "text/csv")}
REPOSITORY = {"type": "github_repository", "url": "https://github.com/acme/shop.git"}
Serving = Callable[..., httpx2.AsyncClient]


@pytest.fixture
def serving() -> Serving:
    def made(*without: str) -> httpx2.AsyncClient:
        app = build(a_world(without=frozenset(without)), Faults(1))
        transport = httpx2.ASGITransport(app=app)
        return httpx2.AsyncClient(transport=transport, base_url="http://sim", headers=HEADERS)

    return made


async def created(http: httpx2.AsyncClient, *resources: Any) -> httpx2.Response:
    body = {"agent": "agent_1", "environment_id": "env_1", "resources": list(resources)}
    return await http.post("/v1/sessions", json=body)


async def test_a_session_shows_what_it_was_made_with_and_no_token(serving: Serving) -> None:
    http = serving()
    file = (await http.post("/v1/files", files=FILE)).json()["id"]
    asked = {"name": "Customer's wishes", "description": "what they want"}
    store = (await http.post("/v1/memory_stores", json=asked)).json()["id"]
    answer = await created(
        http,
        {"type": "file", "file_id": file},
        {**REPOSITORY, "authorization_token": "ghp_s3cret"},
        {"type": "memory_store", "memory_store_id": store},
    )
    assert answer.status_code == 200, answer.text
    assert "s3cret" not in answer.text
    shown = answer.json()["resources"]
    assert [one["mount_path"] for one in shown] == [
        f"/mnt/session/uploads/{file}",
        "/workspace/shop",
        "/mnt/memory/customer-s-wishes",
    ]
    assert (shown[2]["access"], shown[2]["description"]) == ("read_write", "what they want")
    found = (await http.get("/v1/sessions", params={"memory_store_id": store})).json()["data"]
    assert [one["id"] for one in found] == [answer.json()["id"]]
    assert (await http.get("/v1/sessions?memory_store_id=memstore_x")).json()["data"] == []


@pytest.mark.parametrize(
    ("resources", "status", "word"),
    [
        ([{"type": "file", "file_id": "file_x"}], 404, "file_x"),
        ([{"type": "memory_store", "memory_store_id": "memstore_x"}], 404, "memstore_x"),
        ([{**REPOSITORY, "mount_path": "shop"}], 400, "absolute"),
        ([{**REPOSITORY, "url": "git@github.com:acme/shop"}], 400, "url"),
        ([{**REPOSITORY, "checkout": {"type": "tag", "name": "v1"}}], 400, "checkout"),
        ([REPOSITORY, REPOSITORY], 400, "mounted"),
        ([{"type": "disk"}], 400, "disk"),
        ([{"type": "memory_store", "memory_store_id": "m"}] * 9, 400, "8"),
    ],
)
async def test_what_is_not_there_or_makes_no_sense_is_refused(
    serving: Serving, resources: list[Any], status: int, word: str
) -> None:
    http = serving()
    answer = await created(http, *resources)
    assert answer.status_code == status, answer.text
    assert word in answer.json()["error"]["message"]
    assert (await http.get("/v1/sessions")).json()["data"] == []


async def test_a_store_that_is_archived_or_deleted_is_attached_no_more(serving: Serving) -> None:
    http = serving()
    store = (await http.post("/v1/memory_stores", json={"name": "a"})).json()["id"]
    resource = {"type": "memory_store", "memory_store_id": store}
    assert (await http.post(f"/v1/memory_stores/{store}/archive")).json()["archived_at"]
    assert (await created(http, resource)).status_code == 400
    assert (await http.delete(f"/v1/memory_stores/{store}")).status_code == 200
    assert (await created(http, resource)).status_code == 404


async def test_without_files_nothing_takes_or_names_one(serving: Serving) -> None:
    http = serving("files")
    listed = await http.get("/v1/files", params={"limit": 1})
    assert (listed.status_code, listed.json()["error"]["type"]) == (404, "not_found_error")
    assert (await http.post("/v1/files", files=FILE)).status_code == 404
    answer = await created(http, {"type": "file", "file_id": "file_1"})
    assert answer.status_code == 400
    session = (await created(http)).json()["id"]
    block = {"type": "document", "source": {"type": "file", "file_id": "file_1"}}
    events = {"events": [{**message("x"), "content": [block]}]}
    assert (await http.post(f"/v1/sessions/{session}/events", json=events)).status_code == 400
    assert (await http.get("/v1/models")).status_code == 200


async def test_without_cloud_and_oauth_neither_is_made(serving: Serving) -> None:
    http = serving("cloud", "mcp_oauth")
    cloud = {"name": "a", "config": {"type": "cloud"}}
    assert (await http.post("/v1/environments", json={"name": "a"})).status_code == 400
    assert (await http.post("/v1/environments", json=cloud)).status_code == 400
    ours = {"name": "a", "config": {"type": "self_hosted"}}
    assert (await http.post("/v1/environments", json=ours)).status_code == 200
    vault = (await http.post("/v1/vaults", json={"display_name": "v"})).json()["id"]
    path, url = f"/v1/vaults/{vault}/credentials", "https://mcp.example"
    oauth = {"type": "mcp_oauth", "access_token": "x", "mcp_server_url": url}
    assert (await http.post(path, json={"auth": oauth})).status_code == 400
    bearer = {"type": "static_bearer", "token": "x", "mcp_server_url": url}
    assert (await http.post(path, json={"auth": bearer})).status_code == 200


def test_the_command_line_says_what_is_lacking() -> None:
    assert parse([]).without == frozenset()
    assert parse(["--without", "files,models"]).without == {"files", "models"}
    assert parse(["--without", "self_hosted"]).without == set(LACKS)
    with pytest.raises(SystemExit):
        parse(["--without", "file"])
