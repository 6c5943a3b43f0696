"""What the API refuses of a request for a message, in its own words. All is 400 where nothing else is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from infra.simulator.errors import bad
from infra.simulator.messages import signatures
from infra.simulator.messages.catalogue import Traits, reads, traits_of
from infra.simulator.messages.prompt import Part, merged, parts_of
from infra.simulator.messages.request import (
    AnyBlock,
    AnyTool,
    CustomTool,
    MessageRequest,
    OneTool,
    Prompt,
    RedactedThinking,
    ServerToolUse,
    Text,
    Thinking,
    ThinkingEnabled,
    ToolResult,
    ToolUse,
    WebSearchResult,
)

JSON = dict[str, Any]
MOST_MARKS = 4
LEAST_BUDGET = 1_024
SERVER_TOOLS = ("web_search_",)
OF_USER = ("text", "image", "document", "search_result", "tool_result")
OF_ASSISTANT = (
    "text", "thinking", "redacted_thinking", "tool_use", "server_tool_use", "web_search_tool_result",
)  # fmt: skip


class Checked(msgspec.Struct, frozen=True):
    """A prompt that is in order: its blocks, the client's tools, the thinking blocks that the model cannot read."""

    parts: list[Part]
    tools: tuple[CustomTool, ...]
    unread: frozenset[tuple[int, int]]
    searches: bool  # the provider's own web search is offered

    @property
    def tokens(self) -> int:
        return self.parts[-1].tokens


def check_prompt(prompt: Prompt, model: JSON) -> Checked:
    """Raises ApiError for whatever a model could not read."""
    traits = traits_of(model["id"])
    tools, searches = _tools(prompt.tools)
    _check_choice(prompt, tools, traits)
    _check_thinking_type(prompt, traits)
    _check_roles(prompt, traits)
    for at, message in enumerate(prompt.messages):
        _check_blocks(at, message.role, message.blocks)
    _check_pairs(prompt)
    unread = _check_signatures(prompt, model["id"], traits)
    parts = parts_of(prompt, unread)
    _check_marks([part.ttl for part in parts if part.ttl])
    return Checked(parts, tools, unread, searches)


def check_limits(request: MessageRequest, checked: Checked, model: JSON) -> None:
    """Raises ApiError for a prompt that does not fit, or an answer that the model cannot give."""
    if request.max_tokens > model["max_tokens"]:
        raise bad(
            f"max_tokens: {request.max_tokens} > {model['max_tokens']}, which is the maximum allowed number of "
            f"output tokens for {model['id']}"
        )
    thinking = request.thinking
    if isinstance(thinking, ThinkingEnabled) and thinking.budget_tokens >= request.max_tokens:
        raise bad("`max_tokens` must be greater than `thinking.budget_tokens`")
    if checked.tokens > model["max_input_tokens"]:
        most = model["max_input_tokens"]
        raise bad(f"prompt is too long: {checked.tokens} tokens > {most} maximum")


def _tools(given: list[JSON]) -> tuple[tuple[CustomTool, ...], bool]:
    found, searches = [], False
    for at, tool in enumerate(given):
        kind = tool.get("type")
        if isinstance(kind, str) and kind.startswith(SERVER_TOOLS):
            searches = True
            continue
        if kind not in (None, "custom"):
            raise bad(f"tools.{at}: the simulator has no tool of type {kind!r}")
        try:
            custom = msgspec.convert(tool, CustomTool)
        except msgspec.ValidationError as error:
            raise bad(f"tools.{at}.custom: {error}") from None
        if custom.input_schema.get("type") != "object":
            raise bad(f"tools.{at}.custom.input_schema.type: Input should be 'object'")
        found.append(custom)
    if len({tool.name for tool in found}) < len(found):
        raise bad("tools: Tool names must be unique.")
    return tuple(found), searches


def _check_choice(prompt: Prompt, tools: tuple[CustomTool, ...], traits: Traits) -> None:
    choice = prompt.tool_choice
    if choice is not None and not prompt.tools:
        raise bad("tool_choice: may only be specified while providing `tools`.")
    if not isinstance(choice, AnyTool | OneTool):
        return
    if not traits.forced:
        raise bad(
            "tool_choice: forced tool use is not supported on this model; use 'auto' or 'none'."
        )
    if isinstance(prompt.thinking, ThinkingEnabled):
        raise bad("Thinking may not be enabled when tool_choice forces tool use.")
    if isinstance(choice, OneTool) and choice.name not in {tool.name for tool in tools}:
        raise bad(f"tool_choice.tool: Tool '{choice.name}' not found in provided tools")


def _check_thinking_type(prompt: Prompt, traits: Traits) -> None:
    thinking = prompt.thinking
    if thinking is None:
        return
    kind = type(thinking).__struct_config__.tag
    if kind not in traits.types:
        instead = " or ".join(f'"thinking.type.{name}"' for name in traits.types)
        raise bad(f'"thinking.type.{kind}" is not supported for this model. Use {instead}.')
    if isinstance(thinking, ThinkingEnabled) and thinking.budget_tokens < LEAST_BUDGET:
        raise bad("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")


def _check_roles(prompt: Prompt, traits: Traits) -> None:
    if prompt.messages[0].role != "user":
        raise bad('messages: first message must use the "user" role')
    last = prompt.messages[-1]
    paused = (
        last.role == "assistant"
        and isinstance(last.blocks[-1:], list)
        and any(isinstance(block, ServerToolUse) for block in last.blocks[-1:])
    )
    if last.role == "assistant" and not paused and not traits.prefill:
        raise bad(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )


def _check_blocks(at: int, role: str, blocks: list[AnyBlock]) -> None:
    allowed = OF_USER if role == "user" else OF_ASSISTANT
    if not blocks:
        raise bad(f"messages.{at}: {role} messages must have non-empty content")
    for place, block in enumerate(blocks):
        kind = str(type(block).__struct_config__.tag)
        if kind not in allowed:
            raise bad(f"messages.{at}.content.{place}: '{kind}' is not allowed in {role} messages")
        for text in _texts(block):
            if not text:
                raise bad("messages: text content blocks must be non-empty")
            if not text.strip():
                raise bad("messages: text content blocks must contain non-whitespace text")


def _texts(block: AnyBlock) -> Iterator[str]:
    if isinstance(block, Text):
        yield block.text
    elif isinstance(block, ToolResult) and not isinstance(block.content, str):
        yield from (inner.text for inner in block.content if isinstance(inner, Text))


def _check_pairs(prompt: Prompt) -> None:
    """Each call of a message is answered at the beginning of the next one, once, and nothing else is."""
    runs = merged(prompt.messages)
    calls = Counter(b.id for _, run in runs for b in run if isinstance(b, ToolUse | ServerToolUse))
    if calls and max(calls.values()) > 1:
        raise bad("messages: `tool_use` ids must be unique")
    for at, (_, blocks) in enumerate(runs):
        asked = [block.id for block in blocks if isinstance(block, ToolUse)]
        _check_searches(at, blocks, last=at == len(runs) - 1)
        following = runs[at + 1][1] if at + 1 < len(runs) else []
        answers = _leading_results(following)
        if missing := [ident for ident in asked if ident not in answers]:
            raise bad(
                f"messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in "
                "the next message."
            )
        _check_answers(at + 1, following, set(asked))
    _check_answers(0, runs[0][1], set())


def _leading_results(blocks: list[AnyBlock]) -> list[str]:
    found = []
    for block in blocks:
        if not isinstance(block, ToolResult):
            break
        found.append(block.tool_use_id)
    return found


def _check_answers(at: int, blocks: list[AnyBlock], asked: set[str]) -> None:
    seen: set[str] = set()
    for place, block in enumerate(blocks):
        if not isinstance(block, ToolResult):
            continue
        where = f"messages.{at}.content.{place}"
        if block.tool_use_id not in asked:
            raise bad(
                f"{where}: unexpected `tool_use_id` found in `tool_result` blocks: {block.tool_use_id}. Each "
                "`tool_result` block must have a corresponding `tool_use` block in the previous message."
            )
        if block.tool_use_id in seen:
            raise bad(
                f"{where}: each tool_use must have a single result. Found multiple `tool_result` blocks with id: "
                f"{block.tool_use_id}"
            )
        seen.add(block.tool_use_id)


def _check_searches(at: int, blocks: list[AnyBlock], *, last: bool) -> None:
    """The provider's own calls have their results in the same message; a paused one, at the end, has none yet."""
    asked = [block.id for block in blocks if isinstance(block, ServerToolUse)]
    found = {block.tool_use_id for block in blocks if isinstance(block, WebSearchResult)}
    if found - set(asked):
        raise bad(
            f"messages.{at}: unexpected `web_search_tool_result` without its `server_tool_use`"
        )
    without = [ident for ident in asked if ident not in found]
    if without and not (last and without == asked[-1:] and isinstance(blocks[-1], ServerToolUse)):
        raise bad(
            f"messages.{at}: `web_search` tool use with id {without[0]} was found without a corresponding "
            "`web_search_tool_result` block"
        )


def _check_signatures(prompt: Prompt, model: str, traits: Traits) -> frozenset[tuple[int, int]]:
    """The thinking blocks that this model does not read, by message and place. Raises ApiError for one that is not
    as it was made, or, on models that go by it, stands behind another prompt than it was made for."""
    unread = set()
    before = _digests_before(prompt)
    for at, message in enumerate(prompt.messages):
        for place, block in enumerate(message.blocks):
            where = f"messages.{at}.content.{place}"
            if isinstance(block, RedactedThinking):
                raise bad(f"{where}: Invalid `data` in `redacted_thinking` block")
            if not isinstance(block, Thinking):
                continue
            signed = signatures.read(block.signature)
            if signed is None or not signatures.vouches(block.signature, block.thinking):
                raise bad(f"{where}: Invalid `signature` in `thinking` block")
            if not reads(model, signed.model):
                unread.add((at, place))
            elif traits.bound and signed.prefix != before[at, place]:
                raise bad(
                    f"{where}: Invalid `signature` in `thinking` block. The block is bound to a different "
                    "conversation. Remove the block, or set `thinking.block_binding.prefix_mismatch_behavior` to "
                    '"drop_block".'
                )
    return frozenset(unread)


def _digests_before(prompt: Prompt) -> dict[tuple[int, int], str]:
    """Of each content block, the digest of all before it."""
    parts = parts_of(prompt)
    blocks = [(at, place) for at, m in enumerate(prompt.messages) for place in range(len(m.blocks))]
    first = len(parts) - len(blocks)
    ahead = ["", *(part.digest for part in parts)]
    return {where: ahead[first + number] for number, where in enumerate(blocks)}


def _check_marks(ttls: list[str]) -> None:
    if len(ttls) > MOST_MARKS:
        raise bad(
            f"A maximum of {MOST_MARKS} blocks with cache_control may be provided. Found {len(ttls)}."
        )
    if "1h" in ttls[ttls.index("5m") :] if "5m" in ttls else False:
        raise bad(
            "cache_control: a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block."
        )
