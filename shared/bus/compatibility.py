"""Whether a new schema may take the place of a released one. Pure functions over JSON Schema as plain dicts.

An *input* is written by others and read by us: whatever the released schema let them write must still be read.
It may gain optional fields, wider types and enum values; it may not lose a field, need a new one or get narrower.

An *event* is written by us and read by others: whatever we write now must still be understood by a reader of the
released schema, who ignores fields it does not know and expects enums to grow. It may gain fields; it may not
lose one, stop filling one it promised, or give one another type.

Neither may change a default or a constant: the same bytes would then mean something else. What no schema shows
(a field that keeps its type and changes its meaning) stays a matter of review.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shared.bus.schema_values import Node, alternatives, bounds_refused, kind_of, values_of

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Rules:
    """One direction. `open_world`: the reader ignores unknown fields and unknown enum values."""

    open_world: bool
    refusal: str


_INPUT = _Rules(open_world=False, refusal="was accepted and would now be refused")
_EVENT = _Rules(open_world=True, refusal="may now come and was never promised")


def breaks_input(released: Schema, generated: Schema) -> list[str]:
    """Why writers of the `released` input could be refused by `generated`; empty when they could not."""
    old, new = Node(released, released), Node(generated, generated)
    return sorted({*_refusals(new, old, "", _INPUT), *_redefined(old, new, "")})


def breaks_event(released: Schema, generated: Schema) -> list[str]:
    """Why readers of the `released` event could misread `generated`; empty when they could not."""
    old, new = Node(released, released), Node(generated, generated)
    found = {*_refusals(old, new, "", _EVENT), *_redefined(old, new, "")}
    return sorted(found | set(_lost(old, new, "")))


def _refusals(reader: Node, writer: Node, where: str, rules: _Rules) -> list[str]:
    """What `writer` may write and `reader` would not take."""
    found: list[str] = []
    for written in alternatives(writer):
        verdicts = [_verdict(read, written, where, rules) for read in alternatives(reader)]
        known: list[list[str]] = [verdict for verdict in verdicts if verdict is not None]
        if not known:
            found.append(f"{_place(where)}: {kind_of(written)} {rules.refusal}")
        else:
            fewest: list[str] = min(known, key=len)
            found += fewest
    return found


def _verdict(reader: Node, writer: Node, where: str, rules: _Rules) -> list[str] | None:
    """None when the two are of different kinds, else the complaints."""
    if kind_of(reader) == "anything":
        return []
    offered, taken = values_of(writer), values_of(reader)
    if taken is not None:
        if offered is None:
            return None
        extra = [] if rules.open_world else sorted(offered - taken)
        return [f"{_place(where)}: value {value} {rules.refusal}" for value in extra]
    kinds = kind_of(reader), kind_of(writer)
    if kinds[0] != kinds[1] and kinds != ("number", "integer"):
        return None
    narrower = [
        f"{_place(where)}: {limit} {rules.refusal}" for limit in bounds_refused(reader, writer)
    ]
    if kinds[1] == "array":
        items = reader.child("items"), writer.child("items")
        return narrower + _refusals(*items, f"{where}[]", rules)
    if kinds[1] == "object":
        return narrower + list(_object_refusals(reader, writer, where, rules))
    return narrower


def _object_refusals(reader: Node, writer: Node, where: str, rules: _Rules) -> Iterator[str]:
    read, written = reader.fields(), writer.fields()
    for name in sorted(reader.required() - writer.required()):
        yield f"{_place(_join(where, name))}: is required by the reader, the writer may leave it out"
    for name, field in written.items():
        if name in read:
            yield from _refusals(read[name], field, _join(where, name), rules)
        elif not rules.open_world and reader.schema.get("additionalProperties") is False:
            yield f"{_place(_join(where, name))}: is gone; whoever sends it would be refused"
    values = writer.schema.get("additionalProperties")
    if isinstance(values, Mapping):
        others = reader.child("additionalProperties"), writer.child("additionalProperties")
        yield from _refusals(*others, _join(where, "*"), rules)


def _lost(old: Node, new: Node, where: str) -> Iterator[str]:
    """Fields of the released schema that the new one does not have, at any depth."""
    for one, other in _pairs(old, new):
        fields = other.fields()
        for name, field in one.fields().items():
            if name not in fields:
                yield f"{_place(_join(where, name))}: is gone; readers rely on it"
            else:
                yield from _lost(field, fields[name], _join(where, name))


def _redefined(old: Node, new: Node, where: str) -> Iterator[str]:
    """Defaults and constants that changed their value, at any depth."""
    for word in ("default", "const"):
        if word in old.schema and old.schema[word] != new.schema.get(word, old.schema[word]):
            yield f"{_place(where)}: {word} was {old.schema[word]!r}, is {new.schema[word]!r}"
    for one, other in _pairs(old, new):
        fields = other.fields()
        for name, field in one.fields().items():
            if name in fields:
                yield from _redefined(field, fields[name], _join(where, name))


def _pairs(old: Node, new: Node) -> Iterator[tuple[Node, Node]]:
    """The object shapes of both, and those of their list items."""
    for one in alternatives(old):
        for other in alternatives(new):
            if kind_of(one) == kind_of(other) == "object":
                yield one, other
            elif kind_of(one) == kind_of(other) == "array":
                yield from _pairs(one.child("items"), other.child("items"))


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _place(where: str) -> str:
    return where or "the value"
