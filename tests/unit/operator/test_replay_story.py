"""How a session reads as a story."""

import pytest
from click import unstyle

from services.operator.replays.story import Story
from shared.session import Event
from tests.builders import Wire, bound, opening, seen, turn
from tests.unit.operator.recordings import conversation
from tests.unit.session.histories import NAMED
from tests.unit.session.specification import history

pytestmark = pytest.mark.unit


def told(events: list[Event], width: int = 100, whole: bool = False) -> str:
    story = Story(width, whole)
    return "\n".join(filter(None, map(story.tell, events)))


def test_turns_messages_tools_and_costs_are_told_in_order() -> None:
    text = told(conversation())
    wanted = [
        "turn t1 · u1", "hello", "agent_1 on model-1, attempt 1", "well", "10 tokens in",
        "end_turn after", "$0.0300", "turn t2", "list it", 'bash (asks) {"command": "ls"}',
        "allows the call", "bash answered after", "two files", "end_turn after", "$0.0200",
    ]  # fmt: skip
    place = 0
    for words in wanted:
        assert words in text[place:], words
        place = text.index(words, place)


def test_what_the_user_said_is_told_once() -> None:
    assert told(conversation()).count("hello") == 1


def test_what_fails_says_why() -> None:
    assert "failed" in told(list(history(*NAMED["unbound_failed"])))
    assert "overloaded_error" in told(list(history(*NAMED["unbound_retried"])))


@pytest.mark.parametrize("name", sorted(NAMED))
def test_no_history_stops_a_story(name: str) -> None:
    assert told(list(history(*NAMED[name])), width=20)


def test_long_texts_are_cut_unless_all_is_wanted_and_wrapped_below_themselves() -> None:
    said = "word " * 2_000
    events = list(history(opening(), turn(), bound(), seen(*Wire().reply("hello", said))))
    assert "more characters" in told(events)
    assert told(events, whole=True).count("word") == 2_000
    assert all(len(line) <= 100 for line in unstyle(told(events, whole=True)).splitlines())


def test_nothing_said_speaks_to_the_terminal() -> None:
    wire = Wire()
    call = wire.event("agent.tool_use", name="x\x1b[2J", input={"a": "\x1b]0;t\x07"})
    said = wire.message("\x1b[31mred\u202e")
    events = list(history(opening(), turn(content="\x1b[2J"), bound(), seen(call, said)))
    text = told(events)
    # What is left is the story's own: bold and colours.
    assert {part.partition("m")[0] for part in text.split("\x1b[")[1:]} <= {
        "0", "1", "32", "33", "36", "90",
    }  # fmt: skip
    assert "\u202e" not in text
    assert "\x07" not in text
