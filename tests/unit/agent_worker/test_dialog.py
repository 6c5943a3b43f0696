"""The fold of a conversation's entries: whatever they are, the next request is one that the Messages API takes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.simulator.messages.catalogue import find
from infra.simulator.messages.check import check_prompt
from infra.simulator.messages.request import REQUEST
from services.agent_worker.ports import Entry
from services.agent_worker.provider.messages import entries
from services.agent_worker.provider.messages.agents import Agent
from services.agent_worker.provider.messages.dialog import (
    Dialog,
    grow,
    halves,
    opened,
    request,
    shortened,
)
from shared.session import provider

pytestmark = pytest.mark.unit
AT = "2026-11-30T00:00:00Z"
LOOKUP = {"name": "lookup", "description": "Looks up.", "input_schema": {"type": "object"}}
AGENT = Agent(
    name="a", model="claude-opus-5-5", system="Be brief.", max_tokens=100, tools=(LOOKUP,)
)
USAGE = {"input_tokens": 10, "output_tokens": 2}
JSON = dict[str, Any]


def text(words: str) -> JSON:
    return {"type": "text", "text": words}


class Told:
    """A conversation and all that was added to it. Each move does nothing where it can't be made."""

    def __init__(self) -> None:
        self.entries = [Entry(position=0, source="open", said=msgspec.json.encode(AGENT))]
        self.dialog = opened("conv_1", self.entries)
        self._number = 0

    def add(self, new: list[Entry]) -> None:
        for entry in new:
            grow(self.dialog, entry)
        self.entries += new

    def move(self, name: str) -> None:
        self._number += 1
        getattr(self, f"_{name}")(self.dialog)

    def _prompt(self, d: Dialog) -> None:
        if d.phase == "rest":
            self.add(entries.prompt(d, [text(f"say {self._number}")], f"t{self._number}", AT))

    def _begin(self, d: Dialog) -> None:
        if d.phase == "ask" and d.begun is None:
            self.add(entries.began(d, USAGE, AT))

    def _reply(self, d: Dialog) -> None:
        self._answer(d, [text("so it is")], "end_turn")

    def _call(self, d: Dialog) -> None:
        uses = [
            {"type": "tool_use", "id": f"toolu_{self._number}_{n}", "name": "lookup", "input": {}}
            for n in range(2)
        ]
        self._answer(d, [text("let me see"), *uses], "tool_use")

    def _nothing(self, d: Dialog) -> None:
        self._answer(d, [], "end_turn")

    def _answer(self, d: Dialog, content: list[JSON], stop: str) -> None:
        if d.phase == "ask":
            message = {"content": content, "usage": USAGE, "stop_reason": stop}
            self.add(entries.answer(d, message, AT))

    def _result(self, d: Dialog) -> None:
        if d.calls:
            call = next(iter(d.calls))
            self.add(
                entries.result(d, call, [text("42")], is_error=False, source=f"r{call}", at=AT)
            )

    def _interrupt(self, d: Dialog) -> None:
        if d.phase != "rest":
            self.add(entries.interrupted(d, AT))

    def _retrying(self, d: Dialog) -> None:
        if d.phase == "ask":
            self.add(entries.failed(d, "overloaded_error", "busy", "retrying", AT))

    def _exhausted(self, d: Dialog) -> None:
        if d.phase == "ask":
            self.add(entries.failed(d, "overloaded_error", "busy", "exhausted", AT))

    def _final(self, d: Dialog) -> None:
        if d.phase == "ask":
            self.add(entries.failed(d, "invalid_request_error", "no", "final", AT))

    def _broke(self, d: Dialog) -> None:
        self.add(entries.broke(d, AT))

    def _shorten(self, d: Dialog) -> None:
        older, newer = halves(d.messages)
        if older and d.phase == "ask":
            self.add(entries.compacted(d, shortened(newer, "a summary"), "a summary", USAGE, AT))


MOVES = (
    "prompt", "begin", "reply", "call", "nothing", "result", "interrupt", "retrying", "exhausted",
    "final", "broke", "shorten",
)  # fmt: skip
moves = st.lists(
    st.sampled_from((*MOVES, "prompt", "reply", "call", "result", "result")), max_size=40
)


@given(moves)
def test_whenever_the_model_is_asked_it_is_asked_something_it_takes(names: list[str]) -> None:
    told = Told()
    for name in names:
        told.move(name)
        if told.dialog.phase == "ask":
            asked = REQUEST.decode(msgspec.json.encode(request(told.dialog)))
            check_prompt(asked, find(AGENT.model, 200_000))


@given(moves)
def test_who_reads_the_entries_is_where_the_last_one_was(names: list[str]) -> None:
    told = Told()
    for name in names:
        told.move(name)
    assert opened("conv_1", told.entries) == told.dialog


@given(moves)
def test_events_have_ids_of_their_own_and_begun_requests_an_end(names: list[str]) -> None:
    told = Told()
    for name in names:
        told.move(name)
    heads = [provider.head(entry.event) for entry in told.entries[1:]]
    assert len({head.id for head in heads}) == len(heads)
    assert len({entry.source for entry in told.entries}) == len(told.entries)
    begun = sum(head.type == "span.model_request_start" for head in heads)
    ended = sum(head.type == "span.model_request_end" for head in heads)
    assert begun - (told.dialog.begun is not None) <= ended


def test_what_nobody_answered_does_not_stand_there_twice() -> None:
    told = Told()
    for name in ("prompt", "reply", "prompt", "exhausted", "prompt"):
        told.move(name)
    said = [block["text"] for message in told.dialog.messages for block in message["content"]]
    assert said == ["say 1", "so it is", "say 5"]


def test_a_conversation_of_one_prompt_has_nothing_to_leave_out() -> None:
    told = Told()
    for name in ("prompt", "call", "result", "result"):
        told.move(name)
    assert halves(told.dialog.messages)[0] == []
