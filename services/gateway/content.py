"""What may a turn or a tool's answer say? The block shapes the provider takes, and nothing else.

Shapes are those of the SDK's `user.message` and `user.custom_tool_result` parameters. Unknown fields
are refused: a misspelt `cache_control` should fail here and not at the provider, minutes later.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from shared.errors import Rejected

Filled = Annotated[str, Meta(min_length=1)]


class _Shape(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True): ...


class Base64(_Shape, frozen=True, kw_only=True, tag_field="type", tag="base64"):
    media_type: Filled
    data: Filled


class Url(_Shape, frozen=True, kw_only=True, tag_field="type", tag="url"):
    url: Filled


class File(_Shape, frozen=True, kw_only=True, tag_field="type", tag="file"):
    file_id: Filled


class PlainText(_Shape, frozen=True, kw_only=True, tag_field="type", tag="text"):
    media_type: Literal["text/plain"]
    data: Filled


class TextBlock(_Shape, frozen=True, kw_only=True, tag_field="type", tag="text"):
    text: Filled


class ImageBlock(_Shape, frozen=True, kw_only=True, tag_field="type", tag="image"):
    source: Base64 | Url | File


class DocumentBlock(_Shape, frozen=True, kw_only=True, tag_field="type", tag="document"):
    source: Base64 | PlainText | Url | File
    title: str | None = None
    context: str | None = None


class Citations(_Shape, frozen=True, kw_only=True):
    enabled: bool


class SearchResultBlock(_Shape, frozen=True, kw_only=True, tag_field="type", tag="search_result"):
    source: Filled
    title: str
    content: list[TextBlock]
    citations: Citations


Block = TextBlock | ImageBlock | DocumentBlock
AnswerBlock = TextBlock | ImageBlock | DocumentBlock | SearchResultBlock
Content = str | Annotated[list[Block], Meta(min_length=1)]
AnswerContent = Filled | Annotated[list[AnswerBlock], Meta(min_length=1)]


def require_words(content: Content) -> None:
    """Raise Rejected (`invalid_request`) naming the text that is nothing but white space: `content`, or one
    block of several. The provider takes no such block, and the worker would put the turn into the dead letters."""
    if isinstance(content, str):
        blank = ["content"] if not content or content.isspace() else []
    else:
        blank = [
            f"content[{place}].text"
            for place, block in enumerate(content)
            if isinstance(block, TextBlock) and block.text.isspace()
        ]
        if len(blank) == len(content):
            blank = ["content"]
    if blank:
        raise Rejected(
            "invalid_request", "is empty: say something, or leave it out", field=blank[0]
        )
