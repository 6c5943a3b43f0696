"""What the scripts plan, and who gets which."""

import pytest

from infra.simulator.chance import dice
from infra.simulator.errors import ApiError
from infra.simulator.play.casting import Casting
from infra.simulator.play.plan import Delegate, Plan, Say, UseCustomTool, UseTool
from infra.simulator.play.scripts import SCRIPTS, Brief
from infra.simulator.settings import DEFAULT_MIX, parse, script_help

pytestmark = pytest.mark.unit


def content(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


def steps(plan: Plan, kind: type) -> list[object]:
    return [step for request in plan.requests for step in request.steps if isinstance(step, kind)]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_depends_on_its_brief_alone(name: str) -> None:
    first, second = (SCRIPTS[name](Brief("prompt", dice("x"))) for _ in range(2))
    assert first == second
    assert first.script == name


@pytest.mark.parametrize("name", [n for n in SCRIPTS if n not in ("exhausted", "terminal")])
def test_a_script_that_ends_well_answers_in_its_last_request(name: str) -> None:
    plan = SCRIPTS[name](Brief("prompt", dice("x")))
    if plan.stop == "end_turn":
        assert Say() in plan.requests[-1].steps


def test_options_shape_the_plan() -> None:
    def plan(name: str, **options: float) -> Plan:
        return SCRIPTS[name](Brief("p", dice("x"), options))

    assert len(plan("tools", rounds=5).requests) == 6
    assert len(steps(plan("confirm", calls=3), UseTool)) == 3
    assert len(steps(plan("custom_tool", calls=2, rounds=2), UseCustomTool)) == 4
    assert len(steps(plan("threads", children=25), Delegate)) == 25
    assert len(steps(plan("long", events=1000), UseTool)) > 300
    assert plan("exhausted", unprocessed=1).unprocessed
    assert not plan("exhausted", unprocessed=0).unprocessed


def test_the_seed_and_the_prompt_choose_the_script() -> None:
    prompts = [f"prompt {number}" for number in range(200)]

    def cast(seed: int) -> list[str]:
        casting = Casting(seed, DEFAULT_MIX)
        return [casting.plan(content(prompt)).script for prompt in prompts]

    assert cast(1) == cast(1) != cast(2)
    assert set(cast(1)) == set(DEFAULT_MIX)


def test_a_directive_is_followed_so_many_times() -> None:
    casting = Casting(1, DEFAULT_MIX)
    prompt = content("once [[script: terminal times=1]]")
    assert [casting.plan(prompt).script for _ in range(3)] == ["terminal", "reply", "reply"]


def test_a_directive_in_context_is_not_followed() -> None:
    casting = Casting(1, {"reply": 1})
    both = content("earlier: [[script: terminal]]") + content("now")
    assert casting.plan(both).script == "reply"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[[script: nonsense]]", "nonsense"),
        ("[[script: reply rounds=2]]", "rounds"),
        ("[[script: long events=many]]", "events"),
    ],
)
def test_a_wrong_directive_is_named(text: str, word: str) -> None:
    with pytest.raises(ApiError, match=word) as refusal:
        Casting(1, DEFAULT_MIX).check(content(text))
    assert refusal.value.status == 400


def test_the_command_line_sets_everything() -> None:
    settings = parse(["--port", "1", "--seed", "7", "--pace", "0.5", "--mix", "long=2,reply=1"])
    assert (settings.port, settings.seed, settings.pace) == (1, 7, 0.5)
    assert settings.mix == {"long": 2, "reply": 1}
    assert all(name in script_help() for name in SCRIPTS)


@pytest.mark.parametrize("wrong", [["--pace", "-1"], ["--mix", "reply"], ["--keepalive", "0"]])
def test_a_wrong_command_line_exits(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        parse(wrong)
