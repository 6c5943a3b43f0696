"""One stack with three tenants for all end-to-end tests, and what asks it questions."""

from __future__ import annotations

import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from tests.e2e import ledger_tool
from tests.e2e.api import Api
from tests.e2e.archive import Archive
from tests.e2e.provider import Provider
from tests.e2e.tenants import ACME, KEYS, UMBRA
from tests.e2e.world import Tell, World
from tests.stack import LocalStack, running_stack

_numbers = count(1)


@pytest.fixture(scope="session")
async def local_stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LocalStack]:
    """The whole stack; when a test failed, the logs of its parts are kept and their place is told."""
    pairs = ",".join(f"{key}:{tenant}" for tenant, key in KEYS.items())
    async with running_stack(
        TURNSTILE_API_KEYS=pairs, TURNSTILE_CONNECT_HOSTS="127.0.0.1"
    ) as stack:
        yield replace(stack, key=KEYS[ACME])
        if request.session.testsfailed:
            kept = tmp_path_factory.mktemp("stack-logs")
            shutil.copytree(stack.settings.folders.log, kept, dirs_exist_ok=True)
            sys.stderr.write(f"\nlogs of the stack: {kept}\n")


@pytest.fixture(scope="session")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the tool of `strict_stack` notes its runs."""
    return tmp_path_factory.mktemp("ledger")


@pytest.fixture(scope="session")
async def strict_stack(ledger: Path) -> AsyncIterator[LocalStack]:
    """A stack of the tenant `acme` with other policies than the shared one: sessions are parked behind a dead
    letter, and the worker has the tool `lookup`. They are the worker's, for all its sessions."""
    told = {
        "TURNSTILE_API_KEYS": f"{KEYS[ACME]}:{ACME}",
        "TURNSTILE_PARK_SESSIONS": "1",
        "TURNSTILE_TOOLS": f"{ledger_tool.__name__}:lookup",
        ledger_tool.FOLDER: str(ledger),
    }
    async with running_stack(**told) as stack:
        yield stack


@pytest.fixture(scope="session")
async def api(local_stack: LocalStack) -> AsyncIterator[Api]:
    """The tenant `acme` at the gateway."""
    client = Api(local_stack.gateway, KEYS[ACME])
    yield client
    await client.http.aclose()


@pytest.fixture(scope="session")
async def umbra(local_stack: LocalStack) -> AsyncIterator[Api]:
    """Another tenant at the same gateway."""
    client = Api(local_stack.gateway, KEYS[UMBRA])
    yield client
    await client.http.aclose()


@pytest.fixture(scope="session")
def archive(local_stack: LocalStack) -> Archive:
    return Archive(local_stack.clickhouse_url)


@pytest.fixture(scope="session")
def provider(local_stack: LocalStack) -> Provider:
    return Provider(local_stack.simulator)


@pytest.fixture(scope="session")
def world(local_stack: LocalStack, api: Api, archive: Archive, provider: Provider) -> World:
    return World(local_stack, api, archive, provider)


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Tell:
    """Print past pytest's capturing: how long it took is worth reading when all went well."""

    def say(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}", flush=True)

    return say


@pytest.fixture
def session_id(request: pytest.FixtureRequest) -> str:
    """A session id of the test's own, with its name in it."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)
    return f"{name[:80]}-{next(_numbers)}"
