"""What a request refers to at the provider is found wherever it can be named."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from services.gateway.bodies import NewTurn, ToolResult
from shared.session.inputs import REQUESTS, read_request
from shared.session.references import Reference, of_content, pinned, references

pytestmark = pytest.mark.unit
WHOSE = {"tenant_id": "acme", "session_id": "ses_1", "at": "2026-11-21T12:00:00Z"}
FILES: list[dict[str, Any]] = [
    {"type": "text", "text": "look"},
    {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
    {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}},
    {"type": "document", "source": {"type": "file", "file_id": "file_2"}, "title": "b"},
]
FOUND = (
    Reference("file", "file_1", "content[1].source.file_id"),
    Reference("file", "file_2", "content[3].source.file_id"),
)


def asked(kind: str, **fields: Any) -> tuple[Reference, ...]:
    return references(read_request(kind, msgspec.json.encode({**WHOSE, **fields})))


def test_a_session_names_its_agent_and_its_vaults() -> None:
    found = asked("session.requested", user_id="u1", agent="agent_1@7", vault_ids=["v_1", "v_2"])
    assert found == (
        Reference("agent", "agent_1", "agent"),
        Reference("vault", "v_1", "vault_ids[0]"),
        Reference("vault", "v_2", "vault_ids[1]"),
    )
    assert asked("session.requested", user_id="u1") == ()


def test_a_session_names_its_files_and_its_memory_and_no_repository() -> None:
    resources = [
        {"type": "github_repository", "url": "https://github.com/acme/shop"},
        {"type": "memory_store", "memory_store_id": "memstore_1"},
        {"type": "file", "file_id": "file_1", "mount_path": "/a"},
    ]
    assert asked("session.requested", user_id="u1", resources=resources) == (
        Reference("memory_store", "memstore_1", "resources[1].memory_store_id"),
        Reference("file", "file_1", "resources[2].file_id"),
    )
    assert asked("session.requested", user_id="u1", resources=None) == ()


def test_a_turn_names_its_agent_and_its_files() -> None:
    fields = {"user_id": "u1", "turn_id": "t1"}
    assert asked("turn.requested", **fields, content=FILES) == FOUND
    named = asked("turn.requested", **fields, content="file_1", agent="agent_1")
    assert named == (Reference("agent", "agent_1", "agent"),)


def test_a_tools_result_names_its_files() -> None:
    assert asked("tool.answered", custom_tool_use_id="sevt_1", content=FILES) == FOUND


def test_nothing_else_names_anything() -> None:
    more: dict[str, dict[str, Any]] = {
        "tool.confirmed": {"tool_use_id": "sevt_1", "result": "deny"},
        "budget.raised": {"budget_usd": 5.0},
        "turn.dropped": {"turn_id": "t1"},
    }
    naming = {"session.requested", "turn.requested", "tool.answered"}
    for kind in REQUESTS.keys() - naming:
        assert asked(kind, **more.get(kind, {})) == ()


@pytest.mark.parametrize(
    ("body", "more"), [(NewTurn, {}), (ToolResult, {"custom_tool_use_id": "sevt_1"})]
)
def test_the_gateways_blocks_are_read_like_those_of_the_log(
    body: type[Any], more: dict[str, str]
) -> None:
    typed = msgspec.convert({"content": FILES, **more}, type=body)
    assert of_content(typed.content) == FOUND


@pytest.mark.parametrize(
    ("agent", "found"),
    [
        ("agent_1", ("agent_1", None)),
        ("agent_1@7", ("agent_1", 7)),
        ("agent_1@x", ("agent_1@x", None)),
        ("@7", ("", 7)),
    ],
)
def test_an_agent_is_named_with_a_version_or_without(
    agent: str, found: tuple[str, int | None]
) -> None:
    assert pinned(agent) == found


def test_a_rubric_may_be_a_file_that_belongs_to_somebody() -> None:
    rubric = {"type": "file", "file_id": "file_9"}
    outcome = {"description": "x", "rubric": rubric}
    found = asked("turn.requested", user_id="u1", turn_id="t1", outcome=outcome)
    assert found == (Reference("file", "file_9", "outcome.rubric.file_id"),)
