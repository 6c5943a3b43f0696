"""The OpenAPI document in others' hands: requests made up from it, and generated clients that play a session."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import httpx2
import pytest

from infra.clients.gateway import Json
from infra.simulator import reply_to
from tests.clients.isolated import TYPESCRIPT, node_packages, python_generator, run
from tests.e2e.tenants import GUEST, KEYS
from tests.stack import PROJECT, LocalStack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
CLIENTS = PROJECT / "tests" / "clients"
TEXT = "What is a turnstile?"
# Whether a made-up value is one that the gateway takes can't always be told by a schema (a cursor, a seq beyond the
# end); what was accepted is deleted, and turns of deleted sessions are gone, a while later.
UNCHECKED = "positive_data_acceptance,ensure_resource_availability,use_after_free"
EXAMPLES = 6
SCHEMATHESIS_S = 420.0


async def test_the_gateway_does_what_its_document_says(
    local_stack: LocalStack, tmp_path: Path
) -> None:
    """No 5xx; every status, kind, header and body is declared; what breaks the schema is refused, so is a call
    without a key."""
    told = await run(
        Path(sys.executable).with_name("schemathesis"),
        *("run", f"{local_stack.gateway}/openapi.json"),
        *(
            "--header",
            f"Authorization: Bearer {KEYS[GUEST]}",
            "--header",
            "Accept: application/json",
        ),
        *("--checks", "all", "--exclude-checks", UNCHECKED),
        *("--max-examples", str(EXAMPLES), "--generation-deterministic"),
        *("--request-timeout", "20", "--no-color"),
        timeout=SCHEMATHESIS_S,
        cwd=tmp_path,
        PYTHONPATH=str(PROJECT),
        SCHEMATHESIS_HOOKS="tests.clients.schemathesis_hooks",
    )
    found = re.search(r"(\d+) generated, (\d+) passed", told)
    assert found, told
    assert int(found[1]) == int(found[2]) > 500, told


async def test_a_generated_python_client_plays_a_session(
    local_stack: LocalStack, session_id: str, tmp_path: Path
) -> None:
    generator = await python_generator()
    told = await run(
        *(*generator, "openapi-python-client", "generate", "--meta", "none", "--fail-on-warning"),
        *("--path", await _document(local_stack, tmp_path)),
        *("--output-path", tmp_path / "made"),
    )
    assert "WARNING" not in told.upper(), told
    arguments = (tmp_path, "made", local_stack.gateway, KEYS[GUEST], session_id, TEXT)
    _require_played(await run(*generator, "python", CLIENTS / "python_session.py", *arguments))


async def test_a_generated_typescript_client_plays_a_session(
    local_stack: LocalStack, session_id: str, tmp_path: Path
) -> None:
    (tmp_path / "node_modules").symlink_to(await node_packages())
    for name in ("package.json", "session.ts", "tsconfig.json"):
        shutil.copy(TYPESCRIPT / name, tmp_path)
    made = await _document(local_stack, tmp_path)
    tools = tmp_path / "node_modules" / ".bin"
    await run(tools / "openapi-typescript", made, "--output", "api.d.ts", cwd=tmp_path)
    await run(tools / "tsc", "--project", ".", cwd=tmp_path)
    arguments = (local_stack.gateway, KEYS[GUEST], session_id, TEXT)
    _require_played(await run("node", "out/session.js", *arguments, cwd=tmp_path))


async def _document(stack: LocalStack, folder: Path) -> Path:
    """The document of the running gateway, as a file."""
    headers = {"Authorization": f"Bearer {KEYS[GUEST]}"}
    async with httpx2.AsyncClient(base_url=stack.gateway, headers=headers) as client:
        answer = await client.get("/openapi.json")
    path = folder / "openapi.json"
    path.write_bytes(answer.content)
    return path


def _require_played(printed: str) -> None:
    told: Json = json.loads(printed)
    assert (told["opened"], told["again"]) == (201, 200)
    assert (told["turn"]["status"], told["turn"]["reply"]) == ("completed", reply_to(TEXT))
    assert told["turn"]["usage"]["output_tokens"] > 0
    assert told["types"][0] == "session.opened"
    assert {"agent.message", "turn.completed"} <= set(told["types"])
    assert told["missing"] == "urn:turnstile:problem:unknown_session"
