"""The content blocks and events that a client may send."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

Text = Annotated[str, Meta(min_length=1)]
Ident = Annotated[str, Meta(min_length=1, max_length=256)]


class Strict(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all request shapes: a field that is not listed is refused."""


class TextBlock(Strict, tag="text"):
    text: Text


Base64 = Annotated[str, Meta(min_length=1, pattern=r"^[A-Za-z0-9+/]+={0,2}(?![\s\S])")]


class ImageSource(Strict, tag="base64"):
    data: Base64
    media_type: Literal["image/gif", "image/jpeg", "image/png", "image/webp"]


class PdfSource(Strict, tag="base64"):
    data: Base64
    media_type: Literal["application/pdf"]


class UrlSource(Strict, tag="url"):
    url: Text


class FileSource(Strict, tag="file"):
    file_id: Ident


class PlainTextSource(Strict, tag="text"):
    data: Text
    media_type: Literal["text/plain"]


class ImageBlock(Strict, tag="image"):
    source: ImageSource | UrlSource | FileSource


class DocumentBlock(Strict, tag="document"):
    source: PdfSource | PlainTextSource | UrlSource | FileSource
    context: str | None = None
    title: str | None = None


class Citations(Strict):
    enabled: bool


class SearchResultBlock(Strict, tag="search_result"):
    citations: Citations
    content: list[TextBlock]
    source: str
    title: str


MessageBlock = TextBlock | ImageBlock | DocumentBlock  # `redacted` exists in answers only
ResultBlock = TextBlock | ImageBlock | DocumentBlock | SearchResultBlock


class TextRubric(Strict, tag="text"):
    content: Annotated[str, Meta(min_length=1, max_length=262_144)]


class FileRubric(Strict, tag="file"):
    file_id: Ident


class UserMessage(Strict, tag="user.message"):
    content: Annotated[list[MessageBlock], Meta(min_length=1)]


class UserInterrupt(Strict, tag="user.interrupt"):
    session_thread_id: str | None = None


class UserToolConfirmation(Strict, tag="user.tool_confirmation"):
    tool_use_id: Ident
    result: Literal["allow", "deny"]
    deny_message: str | None = None


class UserCustomToolResult(Strict, tag="user.custom_tool_result"):
    custom_tool_use_id: Ident
    content: list[ResultBlock] = field(default_factory=list)
    is_error: bool | None = None


class UserToolResult(Strict, tag="user.tool_result"):
    tool_use_id: Ident
    content: list[ResultBlock] = field(default_factory=list)
    is_error: bool | None = None


class UserDefineOutcome(Strict, tag="user.define_outcome"):
    description: Text
    rubric: TextRubric | FileRubric
    max_iterations: Annotated[int, Meta(ge=1, le=20)] | None = None


class SystemMessage(Strict, tag="system.message"):
    content: Annotated[list[TextBlock], Meta(min_length=1, max_length=1000)]


ToolAnswer = UserToolConfirmation | UserCustomToolResult | UserToolResult
UserEvent = (
    UserMessage
    | UserInterrupt
    | UserToolConfirmation
    | UserCustomToolResult
    | UserToolResult
    | UserDefineOutcome
    | SystemMessage
)

MAX_EVENTS_PER_SEND = 100  # the provider does not say; a sender must not rely on more


class SendBody(Strict):
    events: Annotated[list[UserEvent], Meta(min_length=1, max_length=MAX_EVENTS_PER_SEND)]


SEND = msgspec.json.Decoder(SendBody)


def as_json(event: Struct) -> dict[str, Any]:
    """The event as plain JSON values, absent optional fields left out."""
    value: dict[str, Any] = msgspec.to_builtins(event)
    return value
