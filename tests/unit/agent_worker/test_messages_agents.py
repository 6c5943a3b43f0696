"""Agents of the Messages API as files: what is read, and how a wrong file is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.agent_worker.provider.messages.agents import Agent, load

pytestmark = pytest.mark.unit
CLOCK = {
    "type": "custom",
    "name": "clock",
    "description": "Tells the time.",
    "input_schema": {"type": "object"},
}
ORDER = "{name: order, description: Orders., input_schema: {type: object}}"


def write(folder: Path, front: str, body: str = "You are brief.", name: str = "support.md") -> str:
    (folder / name).write_text(f"---\n{front}\n---\n\n{body}\n", encoding="utf-8")
    return str(folder)


def test_front_matter_is_the_agent_and_what_is_below_it_its_system_prompt(tmp_path: Path) -> None:
    front = f"runtime: messages\nmax_tokens: 100\neffort: low\ntools: [clock, {ORDER}]"
    found = load(write(tmp_path, front), "claude-opus-5-5", [CLOCK])
    assert found == {
        "support": Agent(
            name="support",
            model="claude-opus-5-5",
            system="You are brief.",
            max_tokens=100,
            effort="low",
            tools=(
                {
                    "name": "clock",
                    "description": "Tells the time.",
                    "input_schema": {"type": "object"},
                },
                {"name": "order", "description": "Orders.", "input_schema": {"type": "object"}},
            ),
        )
    }


def test_a_page_about_the_folder_is_no_agent(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("about", encoding="utf-8")
    found = load(write(tmp_path, "runtime: messages\nmodel: claude-opus-5"), "other", [])
    assert [agent.model for agent in found.values()] == ["claude-opus-5"]


@pytest.mark.parametrize(
    ("front", "words"),
    [
        ("model: claude-opus-5", "runtime"),
        ("runtime: managed", "runtime"),
        ("runtime: messages\nmax_token: 5", "max_token"),
        ("runtime: messages\nmax_tokens: 0", "max_tokens"),
        ("runtime: messages\ntools: [nobody]", "no tool 'nobody'"),
        ("runtime: messages\ntools: [{name: a b, description: x, input_schema: {}}]", "tools"),
        ("runtime: [", "YAML|expected"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path: Path, front: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as wrong:
        load(write(tmp_path, front), "claude-opus-5", [CLOCK])
    assert "TURNSTILE_MESSAGES_AGENTS" in str(wrong.value)
    assert "support.md" in str(wrong.value)


def test_names_front_matter_and_a_folder_without_agents_are_looked_at(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no agent"):
        load(str(tmp_path), "claude-opus-5", [])
    (tmp_path / "plain.md").write_text("You are brief.", encoding="utf-8")
    with pytest.raises(ValueError, match="front matter"):
        load(str(tmp_path), "claude-opus-5", [])
    (tmp_path / "plain.md").unlink()
    with pytest.raises(ValueError, match="the file's name"):
        load(write(tmp_path, "runtime: messages", name="a b.md"), "claude-opus-5", [])
