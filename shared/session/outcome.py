"""What a turn may ask for in place of saying something: a result, and the rubric by which the provider judges it.

Inside, such a turn has the content of one block of type `outcome`, so that it is queued, journalled and told again
as any other. Shapes are those of the SDK's `user.define_outcome` parameters.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

OUTCOME = "outcome"
FileId = Annotated[str, Meta(min_length=1, max_length=256)]
# Text that is more than white space, as nearly as a schema can say it.
Words = Annotated[str, Meta(min_length=1, extra_json_schema={"pattern": r"\S"})]
RubricText = Annotated[
    str, Meta(min_length=1, max_length=262_144, extra_json_schema={"pattern": r"\S"})
]


class _Shape(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True): ...


class TextRubric(_Shape, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """A rubric in words."""

    content: RubricText


class FileRubric(_Shape, frozen=True, kw_only=True, tag_field="type", tag="file"):
    """A rubric in a file at the provider."""

    file_id: FileId


class Outcome(_Shape, frozen=True, kw_only=True):
    """What is to be there in the end (`description`), how it is judged (`rubric`), and how often at most (the
    provider's default is 3)."""

    description: Words
    rubric: TextRubric | FileRubric
    max_iterations: Annotated[int, Meta(ge=1, le=20)] | None = None


def block(outcome: Outcome) -> dict[str, Any]:
    """The block that stands for it in a turn's content."""
    return {"type": OUTCOME, **msgspec.to_builtins(outcome)}


def outcome_in(content: Any) -> dict[str, Any] | None:
    """The block in a turn's content, None where that says something."""
    first = content[0] if isinstance(content, list) and content else None
    return first if isinstance(first, dict) and first.get("type") == OUTCOME else None


def fields(content: Any) -> dict[str, Any]:
    """The field of a `turn.requested` that gives a turn this content: `content`, or `outcome`."""
    found = outcome_in(content)
    if found is None:
        return {"content": content}
    asked = {name: value for name, value in found.items() if name != "type"}
    return {"outcome": msgspec.convert(asked, Outcome)}
