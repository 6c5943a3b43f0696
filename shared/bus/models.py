"""The schema of each type on the bus, read from the session's own structs.

An input's value is the request itself. An event's value is the envelope `Event` with the type's own `data`;
events of the provider share one schema, since their `data` is the provider's to define.
"""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

from shared.session.events import DATA, OWN_TYPES, Event
from shared.session.inputs import REQUESTS

DRAFT = "https://json-schema.org/draft/2020-12/schema"
PROVIDER_EVENT = "provider.event"

Json = dict[str, Any]


def input_schemas() -> dict[str, Json]:
    """A self-contained JSON Schema (draft 2020-12) of the value of each input type."""
    return {
        kind: _document(f"inputs:{kind}", kind, *_component(model))
        for kind, model in sorted(REQUESTS.items())
    }


def event_schemas() -> dict[str, Json]:
    """Likewise of each event type; `provider.event` stands for every type of the provider's."""
    schemas = {}
    for kind, model in sorted(DATA.items()):
        data, others = _component(model)
        about = data.pop("description", "")
        value = _envelope({"const": kind}, data, about)
        schemas[kind] = _document(f"events:{kind}", kind, value, others)
    foreign = {"type": "string", "not": {"enum": sorted(OWN_TYPES)}}
    verbatim = {"type": "object", "description": "The provider's JSON, byte for byte."}
    about = "An event of the provider under the provider's own type."
    value = _envelope(foreign, verbatim, about)
    schemas[PROVIDER_EVENT] = _document(f"events:{PROVIDER_EVENT}", PROVIDER_EVENT, value, {})
    return schemas


def _component(model: type[msgspec.Struct]) -> tuple[Json, Json]:
    """The model's own schema, and those it refers to."""
    _, found = msgspec.json.schema_components([model], ref_template="#/$defs/{name}")
    return _tidy(found.pop(model.__name__)), {name: _tidy(found[name]) for name in sorted(found)}


def _envelope(kind: Json, data: Json, about: str) -> Json:
    value, _ = _component(Event)
    value["description"] = f"{about}\n\n{value['description']}".strip()
    value["properties"] = {**value["properties"], "type": kind, "data": data}
    return value


def _document(name: str, title: str, value: Json, others: Json) -> Json:
    head = {"$schema": DRAFT, "$id": f"urn:turnstile:schema:{name}", **value, "title": title}
    return {**head, "$defs": others} if others else head


def _tidy(schema: Any) -> Any:
    """Descriptions are docstrings: without the indentation of the source. What tells the branches of a union apart
    is in each of them: `discriminator` is OpenAPI's word, which JSON Schema does not know and AsyncAPI has
    otherwise."""
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: inspect.cleandoc(value)
        if key == "description" and isinstance(value, str)
        else _tidy(value)
        for key, value in schema.items()
        if not (key == "discriminator" and "propertyName" in value)
    }
