"""The gateway's two documents, as others' tools read them: Redocly's linter and AsyncAPI's own parser."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from shared.bus.asyncapi import asyncapi
from tests.clients.isolated import TYPESCRIPT, node_packages, run
from tests.unit.gateway.desk import document

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]


async def examined(script: str, about: Any, folder: Path) -> Any:
    """What a script of tests/clients/typescript says of a document."""
    packages = await node_packages()
    shutil.copy(TYPESCRIPT / script, folder)
    (folder / "node_modules").unlink(missing_ok=True)
    (folder / "node_modules").symlink_to(packages)
    (folder / "document.json").write_text(json.dumps(about))
    return json.loads(await run("node", script, "document.json", cwd=folder))


async def test_a_linter_finds_nothing_in_the_openapi_document(tmp_path: Path) -> None:
    assert await examined("openapi.mjs", document(), tmp_path) == []
    broken = json.loads(json.dumps(document()))
    [parameters] = [o["parameters"] for o in [broken["paths"]["/v1/sessions/{session_id}"]["get"]]]
    parameters[:] = [one for one in parameters if one["in"] != "path"]
    found = await examined("openapi.mjs", broken, tmp_path)
    assert any("path-parameters-defined" in text for text in found), found


async def test_asyncapis_own_parser_takes_the_asyncapi_document(tmp_path: Path) -> None:
    told = await examined("asyncapi.mjs", asyncapi(), tmp_path)
    assert told["found"] == []
    assert set(told["operations"]) == {"takeInput", "recordEvent", "preview", "buryInput"}
    assert {"turn.requested", "turn.completed", "dead.letter"} <= set(told["messages"])
    broken = json.loads(json.dumps(asyncapi()))
    del broken["components"]["messages"]["turn.requested"]
    assert (await examined("asyncapi.mjs", broken, tmp_path))["found"]
