"""The content blocks of a turn and of a tool's result: those the provider takes, and nothing else.

Shapes are those of the SDK's `user.message` and `user.custom_tool_result` parameters. Unknown fields
are refused: a misspelt `cache_control` should fail here and not at the provider, minutes later. Whoever takes
content from outside, over HTTP or from Kafka, asks here.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from shared.session.outcome import Outcome, TextRubric

# Bytes of JSON that a turn's content, or a tool's result, may have: as much as an HTTP request.
MAX_CONTENT = 1024 * 1024
Filled = Annotated[str, Meta(min_length=1)]
# What is checked below is told to those who read the schemas, as nearly as they can say it.
Said = Annotated[str, Meta(min_length=1, extra_json_schema={"pattern": r"\S"})]
Address = Annotated[
    str,
    Meta(min_length=1, extra_json_schema={"pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s/]\S*$"}),
]
Bytes = Annotated[
    str,
    Meta(
        min_length=1,
        description="Base64",
        extra_json_schema={
            "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
        },
    ),
]
FileId = Annotated[str, Meta(min_length=1, max_length=256)]
_WEB = re.compile(r"https?://[^\s/]\S*", re.IGNORECASE)


class _Shape(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True): ...


class Image(_Shape, frozen=True, kw_only=True, tag_field="type", tag="base64"):
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: Bytes


class Pdf(_Shape, frozen=True, kw_only=True, tag_field="type", tag="base64"):
    media_type: Literal["application/pdf"]
    data: Bytes


class Url(_Shape, frozen=True, kw_only=True, tag_field="type", tag="url"):
    url: Address


class File(_Shape, frozen=True, kw_only=True, tag_field="type", tag="file"):
    file_id: FileId


class PlainText(_Shape, frozen=True, kw_only=True, tag_field="type", tag="text"):
    media_type: Literal["text/plain"]
    data: Filled


class TextBlock(_Shape, frozen=True, kw_only=True, tag_field="type", tag="text"):
    text: Filled


class ImageBlock(_Shape, frozen=True, kw_only=True, tag_field="type", tag="image"):
    source: Image | Url | File


class DocumentBlock(_Shape, frozen=True, kw_only=True, tag_field="type", tag="document"):
    source: Pdf | PlainText | Url | File
    title: str | None = None
    context: str | None = None


class Citations(_Shape, frozen=True, kw_only=True):
    enabled: bool


class FoundText(_Shape, frozen=True, kw_only=True):
    """A text block where there is no other kind: `type` is a field, so that it can't be left out."""

    type: Literal["text"]
    text: Filled


class SearchResultBlock(_Shape, frozen=True, kw_only=True, tag_field="type", tag="search_result"):
    source: Filled
    title: str
    content: list[FoundText]
    citations: Citations


Block = TextBlock | ImageBlock | DocumentBlock
AnswerBlock = TextBlock | ImageBlock | DocumentBlock | SearchResultBlock
Content = Said | Annotated[list[Block], Meta(min_length=1)]
AnswerContent = Filled | Annotated[list[AnswerBlock], Meta(min_length=1)]


def require_content(content: Any) -> None:
    """Raise ValidationError naming the field (`$.content[1].text`) unless this is what a turn may say, given as
    JSON values or as Content. The provider takes no text that is nothing but white space."""
    if isinstance(content, str) and content and not content.isspace():
        return  # what nearly all of them are
    content = _shaped(content, Content)
    if isinstance(content, str):
        blank = ["$.content"] if content.isspace() else []
    else:
        blank = [
            f"$.content[{place}].text"
            for place, block in enumerate(content)
            if isinstance(block, TextBlock) and block.text.isspace()
        ]
        if len(blank) == len(content):
            blank = ["$.content"]
    if blank:
        raise _wrong("is empty: say something, or leave it out", blank[0])


def require_turn(content: Any, outcome: Outcome | UnsetType, on_busy: str) -> None:
    """Raise ValidationError naming the field unless a turn may ask for this: a content, or an outcome in its place,
    which nothing else goes out with."""
    if outcome is UNSET:
        if content is UNSET:
            raise _wrong("is missing: it is required, or an outcome in its place", "$.content")
        require_content(content)
        return
    if content is not UNSET:
        raise _wrong("stands in place of content: leave one of them out", "$.outcome")
    if on_busy in ("coalesce", "steer"):
        raise _wrong("an outcome goes out by itself: leave it out, or enqueue", "$.on_busy")
    rubric = outcome.rubric
    if outcome.description.isspace():
        raise _wrong("is empty: say what is to be there in the end", "$.outcome.description")
    if isinstance(rubric, TextRubric) and rubric.content.isspace():
        raise _wrong("is empty: say how the result is judged", "$.outcome.rubric.content")


def require_answer(content: Any) -> None:
    """The same of a tool's result, given as JSON values or as AnswerContent. Tools may well print white space."""
    _shaped(content, AnswerContent)


def _shaped(content: Any, shape: Any) -> Any:
    try:
        content = msgspec.convert(content, type=shape)
    except msgspec.ValidationError as error:
        raise _wrong(*_placed(str(error))) from None
    if not isinstance(content, str):
        for place, block in enumerate(content):
            _require_source(block, f"$.content[{place}].source")
    return content


def _require_source(block: AnswerBlock, place: str) -> None:
    """What the types don't say: base64 that is none, an address that nobody can fetch."""
    source = block.source if isinstance(block, ImageBlock | DocumentBlock) else None
    if isinstance(source, Url) and _WEB.fullmatch(source.url) is None:
        raise _wrong("must be an http or https address", f"{place}.url")
    if isinstance(source, Image | Pdf):
        try:
            base64.b64decode(source.data, validate=True)
        except (binascii.Error, ValueError) as error:
            words = f"is no base64 ({error}): standard alphabet with padding, no data: prefix"
            raise _wrong(words, f"{place}.data") from None


def _placed(text: str) -> tuple[str, str]:
    words, _, place = text.partition(" - at `$")
    return words, f"$.content{place.removesuffix('`')}"


def _wrong(words: str, place: str) -> msgspec.ValidationError:
    return msgspec.ValidationError(f"{words} - at `{place}`")
