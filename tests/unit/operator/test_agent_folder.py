"""A folder of agents: what is read, what is refused with file, line, field and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.operator.agents.declared import Declared, Invalid
from services.operator.agents.folder import LIMITED, declared, left_alone

pytestmark = pytest.mark.unit
GOOD = "---\nname: Support\nmodel: claude-sonnet-5-5\n---\n\nBe brief.\n"


def folder(path: Path, **files: str) -> list[Declared]:
    for name, text in files.items():
        kind = "environments/{}.yaml" if name.startswith("env") else "agents/{}.md"
        place = path / kind.format(name)
        place.parent.mkdir(exist_ok=True)
        place.write_text(text)
    return declared(path, "claude-current")


def wrong(path: Path, text: str, name: str = "support") -> str:
    with pytest.raises(Invalid) as found:
        folder(path, **{name: text})
    return str(found.value)


def test_front_matter_is_the_fields_and_the_body_the_prompt(tmp_path: Path) -> None:
    (one,) = folder(tmp_path, support=GOOD)
    assert (one.kind, one.file, one.name) == ("agent", "./agents/support.md", "support")
    assert (one.body["name"], one.body["system"], one.body["tools"]) == ("Support", "Be brief.", [])


def test_the_hash_is_of_what_is_said_not_of_how_it_is_written(tmp_path: Path) -> None:
    (one,) = folder(tmp_path, support=GOOD)
    spaced = '---\n# why\nmodel: "claude-sonnet-5-5"\nname: Support\n---\nBe brief.\n\n'
    (same,) = folder(tmp_path, support=spaced)
    (other,) = folder(tmp_path, support=GOOD.replace("brief", "long"))
    assert one.hash == same.hash != other.hash


def test_without_a_model_an_agent_gets_the_one_of_the_settings(tmp_path: Path) -> None:
    (one,) = folder(tmp_path, support="---\nname: S\n---\n")
    assert one.body["model"] == "claude-current"
    assert "claude-current" in one.notes[0]


def test_an_environment_that_says_nothing_of_its_network_gets_a_limited_one(tmp_path: Path) -> None:
    own = "name: b\nconfig: {type: cloud, networking: {type: unrestricted}}\n"
    a, b, c = folder(
        tmp_path, env_a="name: a\n", env_b=own, env_c="name: c\nconfig: {type: self_hosted}\n"
    )
    assert a.body["config"] == {"type": "cloud", "networking": LIMITED}
    assert b.body["config"]["networking"] == {"type": "unrestricted"}
    assert c.body["config"] == {"type": "self_hosted"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no front matter", "support.md:1: must begin with front matter"),
        ("---\nname: S\n", "support.md:1: the front matter has no end"),
        ("---\nname: [S\n---\n", "support.md:2: expected"),
        ("---\nname: S\nname: T\n---\n", "support.md:3: name stands here twice"),
        ("---\n- S\n---\n", "support.md:2: must be fields with values"),
        ("---\nmodel: m\n---\n", "support.md:2: name: is missing"),
        ("---\nname: 7\n---\n", "support.md:2: name: must be text, not 7"),
        ("---\nname: S\nsystem: x\n---\n", "support.md:3: system: the text below"),
        ("---\nname: S\nmodell: x\n---\n", "support.md:3: modell: is no field here: allowed: desc"),
        ("---\nname: S\nbetas: [x]\n---\n", "betas: is no field here"),
        ("---\nname: S\ntools: bash\n---\n", "support.md:3: tools: must be a list, not 'bash'"),
        (
            "---\nname: S\ntools:\n  - type: toolset\n---\n",
            "support.md:4: tools[0].type: 'toolset' is not allowed: allowed: agent_toolset_20260401,",
        ),
        (
            "---\nname: S\ntools:\n- type: custom\n  name: t\n  description: d\n---\n",
            "support.md:4: tools[0].input_schema: is missing",
        ),
        (
            "---\nname: S\nmodel:\n  id: m\n  effort: hard\n---\n",
            "support.md:5: model.effort: 'hard' is not allowed: allowed: low, medium, high",
        ),
        ("---\nname: S\nmetadata: {a: 1}\n---\n", "metadata.a: must be text, not 1"),
        ("---\nname: S\nmetadata: {turnstile_file: x}\n---\n", "is kept for Turnstile itself"),
        (
            "---\nname: S\ntools:\n- {type: mcp_toolset, mcp_server_name: hub}\n---\n",
            "tools[0].mcp_server_name: hub is none of mcp_servers: none",
        ),
        (
            "---\nname: S\nmcp_servers:\n- {type: url, name: hub, url: 'https://h'}\n---\n",
            "support.md:4: mcp_servers[0]: no mcp_toolset in tools uses hub",
        ),
        (
            "---\nname: S\nskills:\n- {type: custom, skill_id: ../skills/a}\n---\n",
            "support.md:4: skills[0]: there is no ./skills/a in skills/",
        ),
        (
            "---\nname: S\nskills:\n- {type: custom, skill_id: 'https://github.com/o/r'}\n---\n",
            "skills[0]: must be an id or a path, not a URL",
        ),
        (
            "---\nname: S\nmultiagent:\n  type: coordinator\n  agents: [./other.md]\n---\n",
            "support.md:5: multiagent.agents[0]: there is no ./agents/other.md in agents/",
        ),
        (
            "---\nname: S\nmultiagent:\n  type: coordinator\n  agents: [./support.md]\n---\n",
            "./agents/support.md has a multiagent of its own: one level is allowed",
        ),
        (f"---\nname: S\n---\n{'x' * 100_001}", "the prompt has 100001 characters; 100000"),
    ],
)
def test_a_wrong_file_is_named_with_line_field_and_what_is_allowed(
    tmp_path: Path, text: str, words: str
) -> None:
    assert words in wrong(tmp_path, text)


def test_packages_need_the_registries(tmp_path: Path) -> None:
    text = (
        "name: e\nconfig:\n  type: cloud\n  networking: {type: limited}\n  packages: {pip: [x]}\n"
    )
    assert "env.yaml:5: config.packages: needs networking" in wrong(tmp_path, text, "env")


def test_all_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as found:
        folder(tmp_path, a="---\nx: 1\ny: 2\n---\n", b="---\n---\n", good=GOOD)
    fields = [(problem.file, problem.field) for problem in found.value.problems]
    assert fields == [
        ("./agents/a.md", "x"),
        ("./agents/a.md", "y"),
        ("./agents/a.md", "name"),
        ("./agents/b.md", ""),
    ]


def test_yaml_that_multiplies_itself_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "has more than" in wrong(tmp_path, "---\n" + "\n".join(lines) + "\n---\n")


def test_a_file_whose_name_no_session_could_use_is_refused(tmp_path: Path) -> None:
    assert "letters, digits" in wrong(tmp_path, GOOD, "two words")


def test_a_folder_without_files_is_refused_and_other_kinds_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "skills").mkdir()
    with pytest.raises(Invalid, match="neither agents"):
        declared(tmp_path, "m")
    assert left_alone(tmp_path) == ["skills"]
