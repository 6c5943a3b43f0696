"""What the demo prints, without a stack."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.demo.conversations import load_conversations
from infra.demo.hearing import Hearing
from infra.demo.stage import Stage
from infra.demo.table import table
from infra.demo.tree import Span, tree

pytestmark = pytest.mark.unit
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_the_demos_conversations_are_many_and_varied() -> None:
    conversations = load_conversations()
    assert len(conversations) >= 12
    assert len({c.conversation_id for c in conversations}) == len(conversations)
    assert len({c.lang for c in conversations}) >= 6
    assert any(len(c.turns) > 1 for c in conversations)
    assert any("[[script: tools" in turn for c in conversations for turn in c.turns)


def test_a_wrong_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "turns.jsonl"
    path.write_text('{"conversation_id": "a"}\n')
    with pytest.raises(ValueError, match=r"turns\.jsonl, line 1"):
        load_conversations(path)


def delta(message: str, index: int, text: str) -> dict[str, Any]:
    content = {"type": "text", "text": text}
    return {
        "type": "event_delta",
        "event_id": message,
        "delta": {"index": index, "content": content},
    }


def blocks(message: str, *texts: str) -> dict[str, Any]:
    return {"id": message, "content": [{"type": "text", "text": text} for text in texts]}


def test_previews_show_a_message_early_and_the_message_the_rest() -> None:
    hearing = Hearing()
    assert hearing.preview({"type": "event_start", "event": {"id": "m"}}) == ""
    assert hearing.preview(delta("m", 0, "one")) == "one"
    assert hearing.preview(delta("m", 1, "tw")) == "\ntw"
    assert hearing.message(blocks("m", "one", "two")) == "o"


def test_a_preview_after_its_message_shows_nothing() -> None:
    hearing = Hearing()
    assert hearing.message(blocks("m", "one")) == "one"
    assert hearing.preview(delta("m", 0, "one")) == ""


def test_previews_that_went_wrong_do_not_hide_the_message() -> None:
    hearing = Hearing()
    hearing.preview(delta("m", 0, "oe"))
    assert hearing.message(blocks("m", "one")) == "\none"


def test_speakers_appear_in_order_each_as_soon_as_it_can() -> None:
    written: list[str] = []
    stage = Stage(written.append, ["a", "b", "c"])
    stage.speak("b", "b1 ")
    stage.speak("a", "a1 ")
    stage.speak("c", "c1 ")
    stage.finish("c")
    assert "".join(written) == "a1 "
    stage.finish("a")
    stage.speak("b", "b2 ")
    assert "".join(written) == "a1 b1 b2 "
    stage.finish("b")
    assert "".join(written) == "a1 b1 b2 c1 "


def test_columns_line_up_with_wide_characters() -> None:
    text = table(["name", "n"], [["大根", 5], ["ab", 12], ["", None]])
    assert text.splitlines() == ["name   n", "────  ──", "大根   5", "ab    12", "       -"]


def test_a_trace_is_a_tree_in_order_of_time() -> None:
    def span(name: str, parent: str, ms: int) -> Span:
        start = NOON + timedelta(milliseconds=ms)
        return Span(name, parent, name, "svc", start, 1_000_000, failed=name == "c")

    lines = tree([span("c", "a", 9), span("b", "a", 2), span("a", "", 0), span("x", "gone", 20)])
    assert [line.split("ms")[2] for line in lines.splitlines()] == [
        "  a  (svc)",
        "    b  (svc)",
        "    c  (svc)  FAILED",
        "  x  (svc)",
    ]
    assert tree([]) == ""
