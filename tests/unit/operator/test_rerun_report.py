"""Comparing turns, and the page about it."""

import json
import re
from html.parser import HTMLParser

import pytest

from services.operator.past import past
from services.operator.reruns.compare import Pair, as_json, pairs, similarity, summary
from services.operator.reruns.report import page
from shared.session import Event
from tests.unit.operator.recordings import conversation
from tests.unit.session.histories import NAMED
from tests.unit.session.specification import history

pytestmark = pytest.mark.unit


def compared(recorded: list[Event], again: list[Event]) -> list[Pair]:
    return pairs("s1", "rerun:r1:s1", past(recorded).turns(), past(again).turns())


def shown(found: list[Pair], ended: str = "done") -> str:
    return page(found, run="r1", agent="agent_2", at="2026-11-21T10:00:00Z", ended=ended)


@pytest.mark.parametrize(
    ("a", "b", "ratio"),
    [("", "", 1), ("a b", "a b", 1), ("a b", "c d", 0), ("a b c d", "a b x y", 0.5), ("a", "", 0)],
)
def test_similarity_counts_words(a: str, b: str, ratio: float) -> None:
    assert similarity(a, b) == ratio


def test_the_same_again_is_the_same() -> None:
    sums = summary(compared(conversation(), conversation()))
    assert (sums["turns"], sums["compared"], sums["same_reply"]) == (2, 2, 2)
    assert (sums["same_outcome"], sums["same_tools"], sums["mean_similarity"]) == (2, 2, 1.0)
    assert sums["recorded"] == sums["rerun"]
    assert sums["rerun"]["cost_usd"] == pytest.approx(0.05)


def test_what_went_otherwise_is_counted() -> None:
    found = compared(conversation(), list(history(*NAMED["refused"])))
    sums = summary(found)
    assert (sums["turns"], sums["compared"], sums["same_outcome"]) == (2, 1, 0)
    first, second = map(as_json, found)
    assert (first["rerun"]["status"], first["recorded"]["status"]) == ("refused", "completed")
    assert second["rerun"] is None
    json.dumps([first, second])


def test_a_turn_that_is_still_open_is_not_compared() -> None:
    events = conversation()
    open_one = [event for event in events if event.seq < 11]
    assert [pair.rerun for pair in compared(events, open_one)] == [None, None]


class Shape(HTMLParser):
    """Notes tags, and that each one that opens is closed."""

    VOID = frozenset({"meta"})

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.open: list[str] = []
        self.links: set[str] = set()
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        for name, value in attrs:
            assert name not in {"src", "onclick", "onerror"}
            if name == "href" and value:
                self.links.add(value.removeprefix("#"))
            if name == "id" and value:
                self.ids.add(value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def shape_of(text: str) -> Shape:
    shape = Shape()
    shape.feed(text)
    assert shape.open == []
    return shape


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    found = compared(conversation(), list(history(*NAMED["refused"])))
    text = shown(found, "budget")
    shape = shape_of(text)
    assert not shape.seen & {"script", "link", "img", "iframe"}
    assert shape.links
    assert shape.links <= shape.ids
    assert not re.search(r"https?://", text)
    for words in ("completed → refused", "not run again", "the budget would not have lasted"):
        assert words in text


def test_what_was_said_is_text_and_never_markup() -> None:
    evil = "</pre></style><script>alert(1)</script> <img src=x onerror=alert(2)> & \"q\" 'q'"
    text = shown(compared(conversation(reply=evil), conversation(reply=evil + " more words")))
    shape = shape_of(text)
    assert not shape.seen & {"script", "img"}
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<ins>more words</ins>" in text
    text.encode()


def test_an_empty_run_still_has_a_page() -> None:
    assert "turns compared" in shown([], "stopped")
