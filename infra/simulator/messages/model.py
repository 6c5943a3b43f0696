"""The played model: from a request that is in order to the message that answers it."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from infra.simulator.errors import ApiError
from infra.simulator.messages import signatures
from infra.simulator.messages.cache import Cache, Cached
from infra.simulator.messages.catalogue import traits_of
from infra.simulator.messages.check import Checked
from infra.simulator.messages.prompt import Chain, length_of, tokens_of
from infra.simulator.messages.replies import (
    Reply,
    Turn,
    input_for,
    reply_at,
    tool_for,
    turn_of,
    usable,
)
from infra.simulator.messages.request import (
    AnyBlock,
    AnyTool,
    Auto,
    MessageRequest,
    OneTool,
    ServerToolUse,
    Text,
    Thinking,
    ThinkingAdaptive,
    ThinkingDisabled,
    ThinkingEnabled,
    ToolUse,
    WebSearchResult,
)
from infra.simulator.play.casting import Casting
from infra.simulator.play.plan import Failure, Plan, Say, Think, UseCustomTool, UseTool
from infra.simulator.reply import reply_to, text_of

JSON = dict[str, Any]
MOST_ATTEMPTS = 10_000  # prompts whose failures are remembered
NOTE = re.compile(r"\[\[note:[^\]\n]{1,200}\]\]")
RETRY_AFTER = {"retry-after": "1"}
FAILURES = {
    "model_overloaded_error": (529, {}),
    "model_rate_limited_error": (429, RETRY_AFTER),
    "billing_error": (402, {}),
    "model_request_failed_error": (400, {}),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A message, and how it is to be sent: `hold`: not before it is released, or `patience` seconds have passed."""

    message: JSON
    pace: float
    hold: bool
    patience: float
    wait: float = field(default=0.0)  # seconds until the first token


class Model:
    """Answers requests. `new_id` makes ids by their prefix; `now` is in microseconds."""

    def __init__(
        self, casting: Casting, new_id: Callable[[str], str], now: Callable[[], int], pace: float
    ) -> None:
        self._casting = casting
        self._new_id = new_id
        self._now = now
        self._pace = pace
        self._cache = Cache()
        self._failed: OrderedDict[str, int] = OrderedDict()

    def answer(self, request: MessageRequest, checked: Checked, model: JSON) -> Answer:
        """Raises ApiError where the script says that the request fails."""
        turn = turn_of(request)
        if turn.answered == 0:
            self._casting.check(turn.content)
        plan = self._casting.plan(turn.content, again=turn.answered > 0)
        tools = usable(request, checked)
        reply = reply_at(plan, turn.answered, tools=bool(tools), searches=checked.searches)
        self._fail(checked.parts[-1].digest, reply.failures, checked.tokens, model)
        cached = self._cache.use(model["id"], checked.parts, self._now())
        writing = _Writing(request, checked, turn, self._new_id)
        stop, details = writing.write(plan, reply)
        blocks, stop, sequence = _within(
            writing.blocks, stop, request, model["max_input_tokens"] - checked.tokens
        )
        message = {
            "id": self._new_id("msg"),
            "type": "message",
            "role": "assistant",
            "model": model["id"],
            "content": [shown(block) for block in blocks],
            "container": None,
            "diagnostics": None,
            "stop_reason": stop,
            "stop_sequence": sequence,
            "stop_details": details if stop == "refusal" else None,
            "usage": _usage(checked.tokens, cached, blocks),
        }
        pace = self._pace if plan.pace is None else plan.pace
        return Answer(message, pace, plan.hold == reply.from_end, plan.patience)

    def _fail(self, digest: str, failures: tuple[Failure, ...], tokens: int, model: JSON) -> None:
        """The failures of one request come one after the other; the last lasts if it is not one to be retried."""
        done = self._failed.get(digest, 0)
        if not failures or (done >= len(failures) and failures[-1].retry == "retrying"):
            return
        self._failed[digest] = done + 1
        while len(self._failed) > MOST_ATTEMPTS:
            self._failed.popitem(last=False)
        failure = failures[min(done, len(failures) - 1)]
        status, headers = FAILURES[failure.type]
        message = failure.message
        if status == 400:
            message = f"prompt is too long: {tokens} tokens > {model['max_input_tokens']} maximum"
        raise ApiError(status, message, headers=headers)


class _Writing:
    """The content of one answer, block by block, signed where it is thinking."""

    def __init__(
        self, request: MessageRequest, checked: Checked, turn: Turn, new_id: Callable[[str], str]
    ) -> None:
        self.blocks: list[AnyBlock] = []
        self._request = request
        self._turn = turn
        self._new_id = new_id
        self._tools = usable(request, checked)
        self._traits = traits_of(request.model)
        self._searches = checked.searches
        self._chain = Chain(checked.parts[-1].digest)

    def write(self, plan: Plan, reply: Reply) -> tuple[str, JSON | None]:
        """Writes the reply; returns the stop reason and its details."""
        if self._turn.pending:
            self._found(self._turn.pending)
        choice = self._request.tool_choice
        if isinstance(choice, AnyTool | OneTool) and self._turn.answered == 0:
            self._call(UseCustomTool(self._forced(choice), {}), 0)
            return "tool_use", None
        request = reply.request
        calls = [s for s in request.steps if isinstance(s, UseTool | UseCustomTool)]
        calls = calls[: self._most()] if self._tools else []
        for step in request.steps:
            if isinstance(step, Think):
                self._think(f"Let me see. {text_of(self._turn.content)[:200]}")
            elif isinstance(step, Say):
                text = self._reply() if step.text is None else step.text
                hushed = bool(calls) and self._traits.hushed
                self._think(text) if hushed else self._add(Text(text))
        for number, call in enumerate(calls):
            self._call(call, number)
        if calls:
            return "tool_use", None
        return self._stop(plan, reply)

    def _reply(self) -> str:
        """The answer, and whatever the prompt has of notes: what is left out of a conversation is not recalled."""
        said = (b.text for m in self._request.messages for b in m.blocks if isinstance(b, Text))
        notes = dict.fromkeys(note for text in said for note in NOTE.findall(text))
        return "\n".join([reply_to(text_of(self._turn.content)), *notes])

    def _stop(self, plan: Plan, reply: Reply) -> tuple[str, JSON | None]:
        request = reply.request
        if request.pauses and self._searches:
            query = {"query": text_of(self._turn.content)[:40] or "more"}
            self._add(ServerToolUse(self._new_id("srvtoolu"), "web_search", query))
            return "pause_turn", None
        if request.cut_short:
            self._halve()
            return "max_tokens", None
        if plan.stop == "refusal":
            return "refusal", {"type": "refusal", "category": "general_harms", "explanation": None}
        return "end_turn", None

    def _most(self) -> int | None:
        choice = self._request.tool_choice
        return 1 if isinstance(choice, Auto) and choice.disable_parallel_tool_use else None

    def _forced(self, choice: AnyTool | OneTool) -> str:
        return choice.name if isinstance(choice, OneTool) else self._tools[0].name

    def _add(self, block: AnyBlock) -> None:
        self._chain.add("assistant", block)
        self.blocks.append(block)

    def _think(self, thought: str) -> None:
        display = self._thinks()
        if display is None:
            return
        said = thought if display == "summarized" else ""
        signature = signatures.sign(self._request.model, self._chain.digest, thought, said)
        self._add(Thinking(said, signature))

    def _thinks(self) -> str | None:
        """How thinking is shown; None: the model does not think."""
        given, usual = self._request.thinking, "summarized" if self._traits.shows else "omitted"
        if given is None:
            return usual if self._traits.thinks else None
        if isinstance(given, ThinkingDisabled):
            return None
        if isinstance(given, ThinkingEnabled | ThinkingAdaptive):
            return given.display or usual
        return usual

    def _call(self, step: UseTool | UseCustomTool, number: int) -> None:
        tool = tool_for(step, number, self._tools)
        self._add(ToolUse(self._new_id("toolu"), tool.name, input_for(step, tool)))

    def _found(self, call: str) -> None:
        page = {
            "type": "web_search_result",
            "url": "https://example.com/",
            "title": "An example",
            "encrypted_content": "c2ltdWxhdGVk",
            "page_age": None,
        }
        self._add(WebSearchResult(call, [page]))

    def _halve(self) -> None:
        last = self.blocks[-1]
        if isinstance(last, Text):
            self.blocks[-1] = Text(last.text[: max(1, len(last.text) // 2)])


def _within(
    blocks: list[AnyBlock], stop: str, request: MessageRequest, room: int
) -> tuple[list[AnyBlock], str, str | None]:
    """The blocks as far as they may be said: up to a stop sequence, `max_tokens`, and the end of the window."""
    sequence = None
    if request.stop_sequences:
        blocks, sequence = _up_to(blocks, request.stop_sequences)
        stop = stop if sequence is None else "stop_sequence"
    most = min(request.max_tokens, room)
    reason = "max_tokens" if request.max_tokens <= room else "model_context_window_exceeded"
    left = most * 4
    kept: list[AnyBlock] = []
    for block in blocks:
        length = length_of(block)
        if length <= left:
            kept.append(block)
            left -= length
            continue
        if isinstance(block, Text) and left > 0 and block.text[:left].strip():
            kept.append(Text(block.text[:left]))
        return kept, reason, None
    return kept, (stop if most else reason), sequence


def _up_to(blocks: list[AnyBlock], sequences: list[str]) -> tuple[list[AnyBlock], str | None]:
    pattern = re.compile("|".join(re.escape(sequence) for sequence in sequences))
    for at, block in enumerate(blocks):
        found = pattern.search(block.text) if isinstance(block, Text) else None
        if found and isinstance(block, Text):
            said = block.text[: found.start()]
            return [*blocks[:at], *([Text(said)] if said.strip() else [])], found[0]
    return blocks, None


def shown(block: AnyBlock) -> JSON:
    """A block as the API answers with it."""
    value: JSON = msgspec.to_builtins(block)
    if isinstance(block, Text):
        value["citations"] = None
    return value


def _usage(tokens: int, cached: Cached, blocks: list[AnyBlock]) -> JSON:
    output = tokens_of(sum(map(length_of, blocks)))
    thought = tokens_of(sum(length_of(b) for b in blocks if isinstance(b, Thinking)))
    searches = sum(isinstance(block, WebSearchResult) for block in blocks)
    return {
        "input_tokens": tokens - cached.read - cached.written,
        "output_tokens": output,
        "output_tokens_details": {"thinking_tokens": min(thought, output)},
        "cache_creation_input_tokens": cached.written,
        "cache_read_input_tokens": cached.read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": cached.written_5m,
            "ephemeral_1h_input_tokens": cached.written_1h,
        },
        "server_tool_use": {"web_search_requests": searches, "web_fetch_requests": 0}
        if searches
        else None,
        "service_tier": "standard",
        "inference_geo": "global",
        "speed": "standard",
    }


def usage_in_stream(usage: Mapping[str, Any]) -> JSON:
    """What the end of a stream repeats of it."""
    names = (
        "input_tokens", "output_tokens", "output_tokens_details", "cache_creation_input_tokens",
        "cache_read_input_tokens", "server_tool_use",
    )  # fmt: skip
    return {name: usage[name] for name in names}
