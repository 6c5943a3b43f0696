"""The values that a JSON Schema node lets through: the part of the language that msgspec writes, no more."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_UPPER = ("maxLength", "maxItems", "maxProperties", "maximum", "exclusiveMaximum")
_LOWER = ("minLength", "minItems", "minProperties", "minimum", "exclusiveMinimum")
_EXACT = ("pattern", "format", "multipleOf", "propertyNames")


@dataclass(frozen=True, slots=True)
class Node:
    """A schema and the document its `#/$defs/…` references point into."""

    schema: Mapping[str, Any]
    document: Mapping[str, Any]

    def child(self, word: str) -> Node:
        """The schema under `word`; one that takes anything when there is none."""
        schema = self.schema.get(word)
        return Node(schema if isinstance(schema, Mapping) else {}, self.document)

    def fields(self) -> dict[str, Node]:
        """The named fields of an object, references followed where they are one."""
        fields = resolve(self).schema.get("properties", {})
        return {name: Node(schema, self.document) for name, schema in fields.items()}

    def required(self) -> frozenset[str]:
        """The fields that are always there."""
        return frozenset(resolve(self).schema.get("required", ()))


def resolve(node: Node) -> Node:
    """The node behind `$ref`. Raises KeyError when the reference leads nowhere."""
    while "$ref" in node.schema:
        target: Any = node.document
        for step in str(node.schema["$ref"]).removeprefix("#/").split("/"):
            target = target[step]
        node = Node(target, node.document)
    return node


def alternatives(node: Node) -> Iterator[Node]:
    """The node itself, or each branch of its `anyOf` and of a list of types."""
    node = resolve(node)
    types = node.schema.get("type")
    if "anyOf" in node.schema:
        for branch in node.schema["anyOf"]:
            yield from alternatives(Node(branch, node.document))
    elif isinstance(types, list):
        for one in types:
            yield Node({**node.schema, "type": one}, node.document)
    else:
        yield node


def values_of(node: Node) -> frozenset[str] | None:
    """The listed values of an enum or a constant as JSON texts; None when the node lists none."""
    if "const" in node.schema:
        return frozenset({json.dumps(node.schema["const"])})
    if "enum" in node.schema:
        return frozenset(map(json.dumps, node.schema["enum"]))
    return None


def kind_of(node: Node) -> str:
    """`string`, `object`, …; of a list of values their common JSON type; `anything` when not said."""
    listed = values_of(node)
    if listed is None:
        return str(node.schema.get("type", "anything"))
    return "string" if all(value.startswith('"') for value in listed) else "value"


def bounds_refused(reader: Node, writer: Node) -> list[str]:
    """The reader's limits that the writer does not keep, in words."""
    if values_of(writer) is not None:
        return []
    read, written = reader.schema, writer.schema
    found = [
        f"{word} beyond {read[word]}"
        for word in _UPPER
        if word in read and (word not in written or written[word] > read[word])
    ]
    found += [
        f"{word} below {read[word]}"
        for word in _LOWER
        if word in read and (word not in written or written[word] < read[word])
    ]
    return found + [
        f"a {word} other than {read[word]!r}"
        for word in _EXACT
        if word in read and written.get(word) != read[word]
    ]
