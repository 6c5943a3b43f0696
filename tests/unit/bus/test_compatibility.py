"""The rules that keep a release's readers and writers working, one broken schema at a time."""

import copy
from typing import Any

import pytest

from shared.bus.compatibility import breaks_event, breaks_input

pytestmark = pytest.mark.unit

TEXT = {"type": "string", "maxLength": 10}
MAYBE = {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}
RELEASED: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": TEXT,
        "mode": {"enum": ["fast", "slow"], "default": "fast"},
        "note": MAYBE,
        "usage": {"$ref": "#/$defs/Usage"},
        "blocks": {"type": "array", "items": {"type": "object"}},
    },
    "required": ["name", "blocks"],
    "additionalProperties": False,
    "$defs": {
        "Usage": {
            "type": "object",
            "properties": {"tokens": {"type": "integer"}},
            "required": ["tokens"],
        }
    },
}


def changed(**properties: Any) -> dict[str, Any]:
    """The released schema with some properties replaced; None takes one away."""
    schema = copy.deepcopy(RELEASED)
    for name, value in properties.items():
        if value is None:
            del schema["properties"][name]
        else:
            schema["properties"][name] = value
    return schema


def without(schema: dict[str, Any], *required: str) -> dict[str, Any]:
    return {**schema, "required": [name for name in schema["required"] if name not in required]}


def requiring(schema: dict[str, Any], name: str) -> dict[str, Any]:
    return {**schema, "required": [*schema["required"], name]}


def usage(**schema: Any) -> dict[str, Any]:
    return {**RELEASED, "$defs": {"Usage": {**RELEASED["$defs"]["Usage"], **schema}}}


INPUT_MAY = {
    "stay as it is": RELEASED,
    "gain an optional field": changed(extra=TEXT),
    "accept more values": changed(mode={"enum": ["fast", "slow", "never"], "default": "fast"}),
    "accept longer texts": changed(name={"type": "string", "maxLength": 20}),
    "drop a limit": changed(name={"type": "string"}),
    "accept another type too": changed(name={"anyOf": [TEXT, {"type": "integer"}]}),
    "accept any type": changed(name={"description": "whatever"}),
    "stop needing a field": without(RELEASED, "name"),
    "take numbers for integers": usage(properties={"tokens": {"type": "number"}}),
    "take any text for listed values": changed(mode={"type": "string", "default": "fast"}),
}
INPUT_MAY_NOT = {
    "lose a field": (changed(note=None), "note: is gone"),
    "need a new field": (requiring(changed(extra=TEXT), "extra"), "extra: is required"),
    "need an old field": (requiring(RELEASED, "note"), "note: is required"),
    "give a field another type": (changed(name={"type": "integer"}), "name: string"),
    "refuse null": (changed(note={"type": "string", "default": None}), "note: null"),
    "accept fewer values": (changed(mode={"enum": ["fast"], "default": "fast"}), '"slow"'),
    "shorten a text": (changed(name={"type": "string", "maxLength": 9}), "maxLength beyond 9"),
    "add a limit": (changed(note={**MAYBE, "anyOf": [TEXT, {"type": "null"}]}), "note: maxLength"),
    "add a pattern": (changed(name={**TEXT, "pattern": "^a"}), "name: a pattern"),
    "change a default": (changed(mode={"enum": ["fast", "slow"], "default": "slow"}), "default"),
    "narrow a shared shape": (usage(properties={"tokens": {"type": "string"}}), "usage.tokens"),
    "narrow list items": (
        changed(blocks={"type": "array", "items": {"type": "string"}}),
        "blocks[]",
    ),
}
EVENT_MAY = {
    "stay as it is": RELEASED,
    "gain a field": changed(extra=TEXT),
    "gain a field that is always there": requiring(changed(extra=TEXT), "extra"),
    "gain enum values": changed(mode={"enum": ["fast", "slow", "never"], "default": "fast"}),
    "promise an optional field": requiring(RELEASED, "note"),
    "stop saying null": changed(note={"type": "string", "default": None}),
    "keep to shorter texts": changed(name={"type": "string", "maxLength": 5}),
}
EVENT_MAY_NOT = {
    "lose an optional field": (changed(note=None), "note: is gone"),
    "lose a field of a shared shape": (
        usage(properties={}, required=[]),
        "usage.tokens: is gone",
    ),
    "stop filling a field": (without(RELEASED, "name"), "name: is required"),
    "give a field another type": (changed(name={"type": "integer"}), "name: integer"),
    "start saying null": (changed(name={"anyOf": [TEXT, {"type": "null"}]}), "name: null"),
    "say anything": (changed(name={}), "name: anything"),
    "say any text for listed values": (changed(mode={"type": "string", "default": "fast"}), "mode"),
    "write longer texts": (changed(name={"type": "string", "maxLength": 20}), "maxLength"),
    "change a default": (changed(mode={"enum": ["fast", "slow"], "default": "slow"}), "default"),
    "change a constant": (changed(name={"const": "b"}), "name: const"),
}


@pytest.mark.parametrize("schema", INPUT_MAY.values(), ids=INPUT_MAY.keys())
def test_allowed_changes_of_an_input_break_no_release(schema: dict[str, Any]) -> None:
    assert breaks_input(RELEASED, schema) == []


@pytest.mark.parametrize(("schema", "says"), INPUT_MAY_NOT.values(), ids=INPUT_MAY_NOT.keys())
def test_other_changes_of_an_input_are_named(schema: dict[str, Any], says: str) -> None:
    assert says in "\n".join(breaks_input(RELEASED, schema))


@pytest.mark.parametrize("schema", EVENT_MAY.values(), ids=EVENT_MAY.keys())
def test_allowed_changes_of_an_event_break_no_release(schema: dict[str, Any]) -> None:
    assert breaks_event(RELEASED, schema) == []


@pytest.mark.parametrize(("schema", "says"), EVENT_MAY_NOT.values(), ids=EVENT_MAY_NOT.keys())
def test_other_changes_of_an_event_are_named(schema: dict[str, Any], says: str) -> None:
    released = changed(name={"const": "a"}) if "const" in says else RELEASED
    assert says in "\n".join(breaks_event(released, schema))
