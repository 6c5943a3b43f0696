"""What the demo prints, without a stack."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.demo.conversations import load_conversations
from infra.demo.gateway import Received, received
from infra.demo.stage import Stage
from infra.demo.table import table
from infra.demo.talk import message_text, preview_text, rest_of
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


def test_an_event_with_id_is_archived_one_without_is_a_preview() -> None:
    event = {"id": "7", "event": "turn.completed", "data": '{"seq": 7}'}
    assert received(event) == Received(7, "turn.completed", {"seq": 7})
    assert received({"event": "event_delta", "data": "{}"}).seq is None


def test_previews_and_messages_as_text() -> None:
    delta = {"data": {"type": "event_delta", "delta": {"content": {"type": "text", "text": "hi"}}}}
    assert preview_text(delta) == "hi"
    assert preview_text({"data": {"type": "event_start", "event": {}}}) == ""
    assert message_text({"content": [{"type": "text", "text": "a"}, {"type": "image"}]}) == "a"


def test_only_what_was_not_heard_is_printed_again() -> None:
    assert rest_of("hello", "hel") == "lo"
    assert rest_of("hello", "hello") == ""
    assert rest_of("hello", "bye").endswith("hello")


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
