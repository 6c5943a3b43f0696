"""A prompt as the model reads it: tools, the system prompt, messages, block by block, and its length at each.

Each block has the digest of all up to it, without the marks of the cache. Two requests have the same digest at a
block exactly if they are the same up to there; a run of messages of one role counts as one message.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from infra.simulator.messages import signatures
from infra.simulator.messages.request import (
    AnyBlock,
    CacheControl,
    Document,
    Image,
    Message,
    Prompt,
    RedactedThinking,
    SearchResult,
    ServerToolUse,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
    WebSearchResult,
)

CHARACTERS_A_TOKEN = 4
IMAGE_CHARACTERS = 1_600 * CHARACTERS_A_TOKEN  # an image of a usual size
_encode = msgspec.json.Encoder(order="deterministic").encode


def tokens_of(characters: int) -> int:
    """The tokens of so long a text: this provider's only tokenizer."""
    return -(-characters // CHARACTERS_A_TOKEN)


@dataclass(frozen=True, slots=True)
class Part:
    """A block of a prompt: the digest and the length of all up to and with it, and the mark that it carries."""

    digest: str
    characters: int
    ttl: str  # "", "5m" or "1h"
    cacheable: bool

    @property
    def tokens(self) -> int:
        return tokens_of(self.characters)


class Chain:
    """The digest of a growing prompt."""

    def __init__(self, digest: str = "") -> None:
        self.digest = digest

    def add(self, role: str, block: Any) -> str:
        """The digest with one more block, which is a Struct or JSON; its `cache_control` does not count."""
        value = msgspec.to_builtins(block)
        value.pop("cache_control", None)
        text = self.digest.encode() + role.encode() + _encode(value)
        self.digest = hashlib.blake2b(text, digest_size=16).hexdigest()
        return self.digest


def parts_of(prompt: Prompt, unread: frozenset[tuple[int, int]] = frozenset()) -> list[Part]:
    """All blocks in the order in which the model reads them. `unread`: those, by message and place, that it
    does not get, though they count for the digest."""
    chain, parts, total = Chain(), list[Part](), 0
    for role, block, mark, length in _pieces(prompt, unread):
        total += length
        cacheable = not isinstance(block, Thinking | RedactedThinking)
        parts.append(Part(chain.add(role, block), total, mark.ttl if mark else "", cacheable))
    return _marked(prompt.cache_control, parts)


def _pieces(
    prompt: Prompt, unread: frozenset[tuple[int, int]]
) -> Iterator[tuple[str, Any, CacheControl | None, int]]:
    for tool in prompt.tools:
        text = {key: value for key, value in tool.items() if key != "cache_control"}
        mark = CacheControl(**_ttl(tool)) if tool.get("cache_control") else None
        yield "tool", tool, mark, len(_encode(text).decode())
    system = prompt.system
    for block in ([Text(system)] if system else []) if isinstance(system, str) else system:
        yield "system", block, block.cache_control, len(block.text)
    for at, message in enumerate(prompt.messages):
        for place, one in enumerate(message.blocks):
            length = 0 if (at, place) in unread else length_of(one)
            yield message.role, one, getattr(one, "cache_control", None), length


def _ttl(tool: dict[str, Any]) -> dict[str, Any]:
    return {"ttl": tool["cache_control"].get("ttl", "5m")}


def _marked(automatic: CacheControl | None, parts: list[Part]) -> list[Part]:
    """The request's own mark goes to the last block that can be cached."""
    if automatic is None:
        return parts
    for at in range(len(parts) - 1, -1, -1):
        if parts[at].cacheable:
            part = parts[at]
            parts[at] = Part(part.digest, part.characters, part.ttl or automatic.ttl, True)
            break
    return parts


def length_of(block: AnyBlock) -> int:
    """Characters of a block. Thinking that is not shown is as long as it was."""
    match block:
        case Text():
            return len(block.text)
        case Thinking():
            signed = signatures.read(block.signature)
            return signed.characters if signed else len(block.thinking)
        case RedactedThinking():
            return len(block.data)
        case ToolUse() | ServerToolUse():
            return len(block.name) + len(_encode(block.input).decode())
        case ToolResult():
            content = block.content
            return len(content) if isinstance(content, str) else sum(map(length_of, content))
        case Image():
            return IMAGE_CHARACTERS
        case Document():
            return len(getattr(block.source, "data", "")) or IMAGE_CHARACTERS
        case SearchResult():
            return len(block.title) + sum(map(length_of, block.content))
        case WebSearchResult():
            return len(_encode(block.content).decode())


def merged(messages: list[Message]) -> list[tuple[str, list[AnyBlock]]]:
    """Roles and contents with each run of messages of one role made one."""
    runs: list[tuple[str, list[AnyBlock]]] = []
    for message in messages:
        if not runs or runs[-1][0] != message.role:
            runs.append((message.role, []))
        runs[-1][1].extend(message.blocks)
    return runs
