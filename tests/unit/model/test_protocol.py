"""The protocol of lease, epoch and outbox, as a model: explored whole, and broken on purpose.

The worlds here are small enough for every run of the tests; `python -m tests.unit.model` explores larger ones.
"""

from __future__ import annotations

import pytest

from tests.unit.model.explore import explore
from tests.unit.model.rules import Rules, World

pytestmark = pytest.mark.unit

AIR, LOOK, LATE = ("in the air",), ("held back",), ("given up",)
CRASH, FREEZE = World(turns=1, crashes=1), World(turns=1, freezes=1)


@pytest.mark.parametrize(
    ("world", "doubled"),
    [
        pytest.param(World(), set(), id="nothing goes wrong"),
        pytest.param(World(losses=1), set(), id="a request or an answer is lost"),
        pytest.param(World(turns=1, losses=2), set(), id="two are"),
        pytest.param(CRASH, {AIR}, id="one turn, a crash"),
        pytest.param(World(crashes=1), {AIR}, id="two turns, a crash"),
        pytest.param(FREEZE, {AIR}, id="one turn, a freeze"),
        pytest.param(World(turns=1, crashes=1, losses=1), {AIR}, id="a crash, a loss"),
        pytest.param(World(turns=1, freezes=1, losses=1), {AIR}, id="a freeze, a loss"),
        pytest.param(World(turns=1, freezes=2), {AIR}, id="two freezes"),
        pytest.param(World(turns=1, crashes=1, freezes=1), {AIR}, id="a crash, a freeze"),
        pytest.param(World(interrupts=1), set(), id="two turns, an interrupt"),
        pytest.param(
            World(turns=3, cut_in=True), set(), id="three turns that interrupt each other"
        ),
        pytest.param(World(cut_in=True, losses=1), set(), id="two that do, a loss"),
        pytest.param(World(interrupts=1, losses=1), set(), id="an interrupt, a loss"),
        pytest.param(World(turns=1, interrupts=1, crashes=1), {AIR}, id="an interrupt, a crash"),
        pytest.param(World(turns=1, interrupts=1, freezes=1), {AIR}, id="an interrupt, a freeze"),
        pytest.param(World(turns=1, late=1), {LATE}, id="a request beyond all patience"),
        pytest.param(World(steers=True, losses=1), set(), id="a turn that steers, a loss"),
        pytest.param(World(turns=3, steers=True), set(), id="two that steer"),
        pytest.param(World(steers=True, crashes=1), {AIR}, id="one that steers, a crash"),
        pytest.param(World(steers=True, late=1), {LATE}, id="one that steers beyond all patience"),
    ],
)
def test_the_protocol_keeps_the_laws(world: World, doubled: set[tuple[str, ...]]) -> None:
    """Whatever the interleaving; a message is at the provider twice in the named cases and in no other."""
    found = explore(Rules(), world)
    assert not found.broken, "\n".join([found.broken, *found.way])
    assert set(found.doubled) == doubled
    assert found.most <= 1 + world.crashes + world.freezes + world.late


def test_the_second_look_at_the_lease_closes_one_of_the_cases() -> None:
    """Without it a worker that stood still behind its first look sends what its successor has sent already."""
    world = World(turns=1, freezes=1, losses=1)
    assert set(explore(Rules(checks_again=False), world).doubled) == {AIR, LOOK}


@pytest.mark.parametrize(
    ("rules", "world", "law"),
    [
        pytest.param(Rules(fence="nothing"), FREEZE, "two bodies", id="no fence"),
        pytest.param(Rules(order=("do", "write", "say")), CRASH, "twice", id="do before write"),
        pytest.param(
            Rules(order=("say", "write", "do")),
            CRASH,
            "said and not written",
            id="say before write",
        ),
        pytest.param(Rules(looks_when_resumed=False), CRASH, "twice", id="no look on resume"),
        pytest.param(
            Rules(looks_when_unknown=False, looks_when_retrying=False),
            World(turns=1, losses=1),
            "twice",
            id="no look after a failure",
        ),
        pytest.param(Rules(files_first=False), CRASH, "input was lost", id="offset before row"),
        pytest.param(
            Rules(hands_new=False),
            CRASH,
            "twice",
            id="a turn that was filed before is taken in as it is handed over",
        ),
        pytest.param(
            Rules(interrupts_first=False),
            World(interrupts=1),
            "stopped turn 2",
            id="a turn is sent while an interrupt of the one before is on its way",
        ),
        pytest.param(Rules(says_unsaid=False), CRASH, "a gap", id="no unsaid events in the row"),
        pytest.param(Rules(does_todo=False), CRASH, "stuck", id="no commands in the row"),
        pytest.param(Rules(checks_lease=False), FREEZE, "twice", id="no lease check before a send"),
        pytest.param(
            Rules(signals_go_along=False),
            World(crashes=1, losses=1),
            "stuck",
            id="a command is struck off before its end is decided on",
        ),
        pytest.param(
            Rules(tells_apart=False),
            World(crashes=1),
            "without its message",
            id="any message is the open turn's",
        ),
        pytest.param(
            Rules(in_order=False),
            World(turns=3, cut_in=True),
            "behind turn 3",
            id="who interrupts goes first",
        ),
        pytest.param(
            Rules(steers_first=False),
            World(steers=True),
            "twice",
            id="a turn is sent while its message may be on its way into the one before",
        ),
        pytest.param(
            Rules(looks_when_retrying=False),
            World(steers=True),
            "twice",
            id="no look for what was sent into the turn before",
        ),
        pytest.param(
            Rules(one_on_its_way=False),
            World(turns=3, steers=True),
            "behind turn 3",
            id="two are on their way into a turn",
        ),
    ],
)
def test_each_rule_is_needed(rules: Rules, world: World, law: str) -> None:
    """A protocol without it is found out, with the shortest way to where it breaks."""
    found = explore(rules, world)
    assert law in found.broken
    assert found.way


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(Rules(fence="epoch"), id="the epoch alone fences"),
        pytest.param(Rules(fence="version"), id="the version alone fences"),
        pytest.param(Rules(looks_when_retrying=False), id="a look at once replaces one later"),
        pytest.param(Rules(looks_when_unknown=False), id="a look later replaces one at once"),
        pytest.param(Rules(order=("write", "say", "do")), id="doing waits for saying"),
    ],
)
def test_some_rules_are_second_lines(rules: Rules) -> None:
    """The laws hold without them in these worlds: what they guard, another one guards as well."""
    for world in (CRASH, FREEZE, World(turns=1, losses=1)):
        assert not explore(rules, world).broken


def test_same_words_cannot_be_told_apart() -> None:
    """A limit: a message that landed twice is taken for the next turn's if that one says the very same; the agent
    gets as many such messages as were meant."""
    found = explore(Rules(), World(crashes=1, same_words=True))
    assert "turn 2 ended without its message" in found.broken


def test_an_interrupt_may_cross_the_end_of_the_turn_that_was_steered() -> None:
    """A limit: the provider goes on with what was queued, and knows no turn that an interrupt is for."""
    found = explore(Rules(), World(steers=True, interrupts=1))
    assert "an interrupt of turn 1 stopped turn 2" in found.broken
