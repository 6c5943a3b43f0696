"""Secrets of more than thirty kinds through every path, and then looked for everywhere."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2
import pyarrow.parquet as parquet
import pytest

from infra.clients.topics import read_topic
from services.operator.exports.pieces import SHAPES
from shared.bus.topics import TOPICS
from tests.e2e.api import Api
from tests.e2e.archive import Archive
from tests.e2e.connecting import CARRIED, KEPT, connected
from tests.e2e.provider import Provider
from tests.e2e.remains import in_archive, in_files, in_sql
from tests.e2e.tenants import ACME, KEYS
from tests.e2e.test_audit import turnstile
from tests.e2e.waiting import eventually
from tests.stack import PROJECT, LocalStack

URL = "https://mcp.example/{name}"
# The kinds of secrets, and what stands around each in its name: `refused` has its server refuse it.
KINDS = (
    *("bearer", "variable", "oauth_access", "oauth_refresh", "basic_client", "post_client"),
    *("new_bearer", "new_variable", "new_oauth_access", "new_oauth_refresh", "new_client"),
    *("as_type", "as_field", "in_address", "as_variable_name", "in_broken_json", "in_list"),
    *(
        "echoed_whole",
        "echoed_end",
        "echoed_as_basic",
        "refused_by_server",
        "by_command",
        "api_key",
        "in_traceback",
        "in_crash",
    ),
)


def canary(kind: str) -> str:
    return f"canary-{kind}-{sum(kind.encode()):05}-Zq9"


@dataclass
class Told:
    """Everything that anybody was told: answers, records by topic, what commands wrote by name, and what processes
    said when they crashed. `connecting`: secrets that were made while servers were connected, by kind."""

    answers: list[str] = field(default_factory=list)
    topics: list[tuple[str, bytes]] = field(default_factory=list)
    exports: list[tuple[str, str]] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    connecting: dict[str, str] = field(default_factory=dict)


class Teller:
    """A client that keeps what it hears."""

    def __init__(self, api: Api, told: Told) -> None:
        self._api, self._told = api, told

    async def __call__(self, method: str, path: str, body: Any = None, raw: str = "") -> Any:
        content = raw.encode() if raw else None if body is None else json.dumps(body).encode()
        answer = await self._api.http.request(method, path, content=content)
        self._told.answers.append(answer.text + str(answer.headers))
        return answer.json()


def oauth(name: str, client: dict[str, str], access: str, refresh: str) -> dict[str, Any]:
    return {
        "type": "mcp_oauth",
        "access_token": access,
        "mcp_server_url": URL.format(name=name),
        "refresh": {
            "client_id": "client_1",
            "refresh_token": refresh,
            "token_endpoint": "https://auth.example/token",
            "token_endpoint_auth": client,
        },
    }


async def put_and_rotate(tell: Teller, path: str) -> None:
    """The kinds that belong where they are."""
    bearer = {
        "type": "static_bearer",
        "token": canary("bearer"),
        "mcp_server_url": URL.format(name="a"),
    }
    variable = {
        "type": "environment_variable",
        "secret_name": "API_KEY",
        "secret_value": canary("variable"),
        "networking": {"type": "unrestricted"},
    }
    basic = {"type": "client_secret_basic", "client_secret": canary("basic_client")}
    post = {"type": "client_secret_post", "client_secret": canary("post_client")}
    refused = canary("refused_by_server")
    made = [
        (await tell("POST", path, {"auth": auth}))["credential_id"]
        for auth in (
            bearer,
            variable,
            oauth("b", basic, canary("oauth_access"), canary("oauth_refresh")),
            oauth("c", post, refused, refused),
        )
    ]
    new_client = {"type": "client_secret_basic", "client_secret": canary("new_client")}
    news = [
        {"type": "static_bearer", "token": canary("new_bearer")},
        {"type": "environment_variable", "secret_value": canary("new_variable")},
        {
            "type": "mcp_oauth",
            "access_token": canary("new_oauth_access"),
            "refresh": {
                "refresh_token": canary("new_oauth_refresh"),
                "token_endpoint_auth": new_client,
            },
        },
    ]
    for one, new in zip(made, news, strict=False):
        changed = await tell("POST", f"{path}/{one}/rotate", {"auth": new})
        assert changed["credential_id"] == one
    assert (await tell("POST", f"{path}/{made[2]}/validate"))["status"] == "valid"
    assert (await tell("POST", f"{path}/{made[3]}/validate"))["status"] == "invalid"
    assert len((await tell("GET", path))["data"]) == 4


async def misplace(tell: Teller, path: str) -> None:
    """The kinds that stand where they should not."""
    good = {"type": "static_bearer", "token": "x", "mcp_server_url": URL.format(name="z")}
    wrong: list[Any] = [
        {**good, "type": canary("as_type")},
        {**good, canary("as_field"): 1},
        {**good, "mcp_server_url": f"https://u:{canary('in_address')}@mcp.example"},
        {"type": "environment_variable", "secret_name": canary("as_variable_name")},
        {**good, "token": [canary("in_list")]},
    ]
    for auth in wrong:
        assert (await tell("POST", path, {"auth": auth}))["status"] == 400
    broken = f'{{"auth": {{"token": "{canary("in_broken_json")}'
    assert (await tell("POST", path, raw=broken))["status"] == 400


async def have_echoed(tell: Teller, provider: Provider, path: str) -> None:
    """The kinds that the provider repeats, in words and codes, with refusals that pass and that do not."""
    secrets = {
        canary("echoed_whole"): canary("echoed_whole"),
        canary("echoed_end"): canary("echoed_end")[-9:],
        canary("echoed_as_basic"): base64.b64encode(
            f"id:{canary('echoed_as_basic')}".encode()
        ).decode(),
    }
    for secret, echo in secrets.items():
        for status in (400, 403, 409, 500):
            fault = {"kind": "respond", "status": status, "message": echo, "error_code": echo}
            await provider.fault({"path": "credentials"}, fault)
            auth = {
                "type": "static_bearer",
                "token": secret,
                "mcp_server_url": URL.format(name="e"),
            }
            await tell("POST", path, {"auth": auth})
    await provider.no_faults()


def by_command(stack: LocalStack, vault: str) -> str:
    """What the command says, of a credential that is put in and of one that can't be."""
    environment = {
        **os.environ,
        "TURNSTILE_GATEWAY_URL": stack.gateway,
        "TURNSTILE_API_KEY": KEYS[ACME],
    }
    said = ""
    for place in (vault, "vlt_none"):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "services.operator.main",
                "vaults",
                "add",
                place,
                "--url",
                URL.format(name="k"),
            ],
            input=canary("by_command"),
            env=environment,
            capture_output=True,
            timeout=60,
            text=True,
            check=False,
        )
        said += done.stdout + done.stderr
        assert done.returncode == (0 if place == vault else 1), said
    return said


# A process whose work dies of an error that nobody expects, with a credential in its hands.
CRASHING = """
import sys
from services.gateway.vault_bodies import NewCredential
from shared.process import run
from shared.secret import read_secret
from shared.settings import ProcessSettings
import msgspec

async def work(settings, stopping):
    body = sys.stdin.buffer.read()
    asked = msgspec.json.decode(body, type=NewCredential, dec_hook=read_secret)
    raise RuntimeError(f"can do nothing with {SHOWN}")

sys.exit(run("gateway", "Dies.", ProcessSettings, work))
"""


def in_traceback(secret: str, shown: str = "asked") -> str:
    """What such a process leaves behind; `shown` is what its error repeats."""
    auth = {"type": "static_bearer", "token": secret, "mcp_server_url": URL.format(name="t")}
    done = subprocess.run(
        [sys.executable, "-c", CRASHING.replace("SHOWN", shown)],
        input=json.dumps({"auth": auth}),
        env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        cwd=PROJECT,
        capture_output=True,
        timeout=60,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert (done.returncode, "RuntimeError: can do nothing with" in said) == (1, True), said
    return said


async def crash(stack: LocalStack, tell: Teller, provider: Provider, path: str) -> None:
    """The gateway is aborted, as by a fault in a library, while a secret is on its way through it."""
    auth = {
        "type": "static_bearer",
        "token": canary("in_crash"),
        "mcp_server_url": URL.format(name="f"),
    }
    match = {"method": "POST", "path": "credentials"}
    await provider.fault(match, {"kind": "delay", "seconds": 60})
    former = stack.pid("gateway")
    limits = await asyncio.to_thread(Path(f"/proc/{former}/limits").read_text)
    assert "Max core file size        0 " in limits, "an image of the memory would have it"
    asked = asyncio.create_task(tell("POST", path, {"auth": auth}))
    await provider.struck(match)
    os.kill(former, signal.SIGABRT)
    with pytest.raises(httpx2.TransportError):
        await asked
    await provider.no_faults()
    await stack.back("gateway", former)
    log = Path(stack.settings.folders.log, "gateway.log")
    assert "Fatal Python error: Aborted" in await asyncio.to_thread(log.read_text)


async def exported(stack: LocalStack, session: str, folder: Path) -> list[tuple[str, str]]:
    """What the operator's commands write of a session, by command: replays, and the rows of Parquet files."""
    code, replayed = await turnstile(stack, "replay", session, "--tenant", ACME, "--json")
    assert code == 0
    said = [("replay", replayed)]
    for table in SHAPES:
        code, out = await turnstile(stack, "export", str(folder), "--table", table, "--force")
        assert code == 0, f"{table}: {out}"
    focus = folder / "focus.parquet"
    code, out = await turnstile(stack, "cost", "export", str(focus))
    assert code == 0, out
    return [*said, *await asyncio.to_thread(_rows_of_files, folder)]


def _rows_of_files(folder: Path) -> list[tuple[str, str]]:
    return [
        (path.name, str(parquet.read_table(path).to_pylist()))
        for path in sorted(folder.glob("*.parquet"))
    ]


async def on_topics(stack: LocalStack) -> list[tuple[str, bytes]]:
    """All that is on Kafka: keys, values and headers, by topic."""
    said: list[tuple[str, bytes]] = []
    for topic in TOPICS:
        for one in await read_topic(stack.kafka, topic.name):
            parts = (one.key or b"", one.value or b"", *(value for _, value in one.headers))
            said.append((topic.name, b"\n".join(parts)))
    return said


async def found(stack: LocalStack, archive: Archive, told: Told, marker: str) -> list[str]:
    """Everywhere that it lies."""
    return [
        *(f"answer {place}" for place, text in enumerate(told.answers) if marker in text),
        *(f"topic {name}" for name, text in told.topics if marker.encode() in text),
        *(f"export {name}" for name, text in told.exports if marker in text),
        *(f"crash {place}" for place, text in enumerate(told.crashes) if marker in text),
        *(f"sql {name}" for name in await in_sql(stack, marker)),
        *(f"clickhouse {name}" for name in await in_archive(archive, marker)),
        *(f"file {name}" for name in await in_files(stack.settings.folders.log, marker)),
    ]


@pytest.fixture(scope="module")
async def told(
    local_stack: LocalStack,
    api: Api,
    archive: Archive,
    provider: Provider,
    tmp_path_factory: pytest.TempPathFactory,
) -> Told:
    """All kinds, through all paths, and a turn with the vault, whose spans and events are archived and exported."""
    told = Told()
    tell = Teller(api, told)
    vault = (await tell("POST", "/v1/vaults", {"display_name": "canaries"}))["vault_id"]
    path = f"/v1/vaults/{vault}/credentials"
    await put_and_rotate(tell, path)
    await misplace(tell, path)
    await have_echoed(tell, provider, path)
    told.answers.append(await asyncio.to_thread(by_command, local_stack, vault))
    heard, told.connecting = await connected(api, f"/v1/vaults/{vault}")
    told.answers += heard
    answer = await api.http.get(
        "/v1/vaults", headers={"Authorization": f"Bearer {canary('api_key')}"}
    )
    told.answers.append(answer.text)
    told.crashes.append(await asyncio.to_thread(in_traceback, canary("in_traceback")))
    await api.open("ses_canary", vault_ids=[vault])
    await api.say("ses_canary", "t1", "use it [[script: tools rounds=1 calls=1]]")
    await api.turn_in("ses_canary", "t1", "completed")
    last = (await api.session("ses_canary"))["last_seq"]
    await archive.complete(ACME, "ses_canary", last)

    async def traced() -> bool:
        spans = "SELECT count() FROM otel_traces WHERE SpanName LIKE '%rotate%'"
        return await archive.count(spans) > 0

    await eventually(traced, "the spans of these requests")
    told.answers.append((await api.http.get("/metrics")).text)
    await crash(local_stack, tell, provider, path)  # spans that wait to be exported die with it
    told.topics = await on_topics(local_stack)
    told.exports = await exported(local_stack, "ses_canary", tmp_path_factory.mktemp("exports"))
    return told


@pytest.mark.parametrize("kind", KINDS)
async def test_no_secret_is_anywhere(
    local_stack: LocalStack, archive: Archive, told: Told, kind: str
) -> None:
    # Its beginning and its end: a part is as bad as the whole.
    for marker in (canary(kind)[:-3], canary(kind)[7:]):
        assert await found(local_stack, archive, told, marker) == []


@pytest.mark.parametrize("kind", [*KEPT, *CARRIED])
async def test_no_secret_of_a_connection_is_anywhere(
    local_stack: LocalStack, archive: Archive, told: Told, kind: str
) -> None:
    secret = told.connecting[kind]
    heard = told if kind in KEPT else replace(told, answers=[])
    for marker in (secret[: -len(secret) // 3], secret[-len(secret) // 2 :]):
        assert await found(local_stack, archive, heard, marker) == []


async def test_one_that_is_planted_is_found(
    local_stack: LocalStack, api: Api, archive: Archive, tmp_path: Path
) -> None:
    """In an answer, a topic, a table of either database, a log, a replay, an exported file and the last words of a
    process: the search looks at all of them."""
    planted = "canary-planted-in-everything"
    await api.open("ses_planted")
    await api.say("ses_planted", "t1", f"{planted} [[script: tools rounds=1 calls=1]]")
    await api.turn_in("ses_planted", "t1", "completed")
    await archive.complete(ACME, "ses_planted", (await api.session("ses_planted"))["last_seq"])
    await api.http.put("/v1/users/planted/profile", json={"facts": [planted]})
    log = Path(local_stack.settings.folders.log, "planted.log")
    await asyncio.to_thread(log.write_text, planted)
    told = Told(
        [planted],
        await on_topics(local_stack),
        await exported(local_stack, "ses_planted", tmp_path),
        [await asyncio.to_thread(in_traceback, planted, "body")],
    )
    seen = await found(local_stack, archive, told, planted)
    kinds = {place.split()[0] for place in seen}
    assert kinds == {"answer", "topic", "sql", "clickhouse", "file", "export", "crash"}
    written = {place.split()[1].split("-")[0] for place in seen if place.startswith("export")}
    assert written >= {"replay", "events"}
