"""What a request for a message may hold, as the SDK writes it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from infra.simulator.content import (
    FileSource,
    Ident,
    ImageSource,
    PdfSource,
    PlainTextSource,
    Strict,
    UrlSource,
)

JSON = dict[str, Any]
CallId = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]+$", max_length=256)]
ToolName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]
Tokens = Annotated[int, Meta(ge=0)]


class CacheControl(Strict, tag="ephemeral"):
    """The end of a prefix that is to be cached."""

    ttl: Literal["5m", "1h"] = "5m"


class Block(Strict):
    """A content block; `cache_control` only where the API takes it."""


class Text(Block, tag="text"):
    text: str
    citations: list[JSON] | None = None
    cache_control: CacheControl | None = None


class Image(Block, tag="image"):
    source: ImageSource | UrlSource | FileSource
    cache_control: CacheControl | None = None


class Document(Block, tag="document"):
    source: PdfSource | PlainTextSource | UrlSource | FileSource
    title: str | None = None
    context: str | None = None
    citations: JSON | None = None
    cache_control: CacheControl | None = None


class SearchResult(Block, tag="search_result"):
    source: str
    title: str
    content: list[Text]
    citations: JSON | None = None
    cache_control: CacheControl | None = None


class Thinking(Block, tag="thinking"):
    thinking: str
    signature: str


class RedactedThinking(Block, tag="redacted_thinking"):
    data: str


class ToolUse(Block, tag="tool_use"):
    id: CallId
    name: Ident
    input: JSON
    caller: JSON | None = None
    toolset_name: str | None = None
    cache_control: CacheControl | None = None


class ToolResult(Block, tag="tool_result"):
    tool_use_id: CallId
    content: str | list[Text | Image | Document | SearchResult] = ""
    is_error: bool | None = None
    toolset_name: str | None = None
    cache_control: CacheControl | None = None


class ServerToolUse(Block, tag="server_tool_use"):
    id: CallId
    name: Literal["web_search"]
    input: JSON
    caller: JSON | None = None
    cache_control: CacheControl | None = None


class WebSearchResult(Block, tag="web_search_tool_result"):
    tool_use_id: CallId
    content: list[JSON] | JSON
    caller: JSON | None = None
    cache_control: CacheControl | None = None


AnyBlock = (
    Text
    | Image
    | Document
    | SearchResult
    | Thinking
    | RedactedThinking
    | ToolUse
    | ToolResult
    | ServerToolUse
    | WebSearchResult
)


class Message(Strict):
    role: Literal["user", "assistant"]
    content: str | list[AnyBlock]

    @property
    def blocks(self) -> list[AnyBlock]:
        """Its content; a string is one block of text."""
        return [Text(self.content)] if isinstance(self.content, str) else self.content


class CustomTool(Strict):
    """A tool that the client runs."""

    name: ToolName
    input_schema: JSON
    type: Literal["custom"] | None = None
    description: str | None = None
    strict: bool | None = None
    input_examples: list[JSON] | None = None
    eager_input_streaming: bool | None = None
    defer_loading: bool | None = None
    allowed_callers: list[str] | None = None
    cache_control: CacheControl | None = None


class Auto(Strict, tag="auto"):
    disable_parallel_tool_use: bool = False


class AnyTool(Strict, tag="any"):
    disable_parallel_tool_use: bool = False


class OneTool(Strict, tag="tool"):
    name: str
    disable_parallel_tool_use: bool = False


class NoTool(Strict, tag="none"):
    pass


class ThinkingEnabled(Strict, tag="enabled"):
    budget_tokens: int
    display: Literal["summarized", "omitted"] | None = None


class ThinkingAdaptive(Strict, tag="adaptive"):
    display: Literal["summarized", "omitted"] | None = None


class ThinkingDisabled(Strict, tag="disabled"):
    pass


class ThinkingBetweenTools(Strict, tag="between_tools"):
    pass


ThinkingConfig = ThinkingEnabled | ThinkingAdaptive | ThinkingDisabled | ThinkingBetweenTools


class OutputConfig(Strict):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JSON | None = None


class Metadata(Strict):
    user_id: Annotated[str, Meta(max_length=512)] | None = None


class Prompt(Strict, kw_only=True):
    """What is counted: all that the model reads, and how it is to think."""

    model: Ident
    messages: Annotated[list[Message], Meta(min_length=1, max_length=100_000)]
    system: str | list[Text] = ""
    tools: list[JSON] = field(default_factory=list)
    tool_choice: Auto | AnyTool | OneTool | NoTool | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    cache_control: CacheControl | None = None
    speed: Literal["standard", "fast"] | None = None


class MessageRequest(Prompt, kw_only=True):
    """What is answered. Sampling parameters are gone: `temperature` and its like are refused as unknown."""

    max_tokens: Tokens
    stream: bool = False
    stop_sequences: list[str] = field(default_factory=list)
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    inference_geo: str | None = None
    container: str | JSON | None = None
    diagnostics: JSON | None = None


PROMPT = msgspec.json.Decoder(Prompt)
REQUEST = msgspec.json.Decoder(MessageRequest)
