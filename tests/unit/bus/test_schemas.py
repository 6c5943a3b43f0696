"""The generated schemas: they say what the models do, and the tree has them as generated."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator, ValidationError

from shared.bus import schemas
from shared.bus.asyncapi import asyncapi
from shared.bus.models import PROVIDER_EVENT, event_schemas, input_schemas
from shared.bus.topics import TOPICS
from shared.session.events import DATA
from shared.session.inputs import REQUESTS, read_request

pytestmark = pytest.mark.unit

AT = "2026-11-21T10:00:00.123456Z"
TURN: dict[str, Any] = {
    "tenant_id": "acme",
    "session_id": "ses_1",
    "user_id": "u1",
    "turn_id": "t1",
    "content": "Guten Tag",
    "at": AT,
}
EVENT: dict[str, Any] = {
    "tenant_id": "acme",
    "session_id": "ses_1",
    "seq": 1,
    "event_id": "sevt_1",
    "turn_id": None,
    "at": AT,
    "user_id": "u1",
    "data": {"id": "sevt_1"},
}


def test_every_type_has_a_valid_schema() -> None:
    assert set(input_schemas()) == set(REQUESTS)
    assert set(event_schemas()) == {*DATA, PROVIDER_EVENT}
    for schema in [*input_schemas().values(), *event_schemas().values()]:
        Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"content": [{"type": "text", "text": "hi"}]},
        {"content": ""},
        {"content": []},
        {"content": 7},
        {"on_busy": "reject"},
        {"on_busy": "later"},
        {"turn_id": "no spaces"},
        {"turn_id": "t1\n"},
        {"turn_id": "x" * 129},
        {"agent": None},
        {"unknown": 1},
        {"user_id": None},
    ],
    ids=str,
)
def test_schema_and_model_agree(change: dict[str, Any]) -> None:
    value = {**TURN, **change}
    assert valid(input_schemas()["turn.requested"], value) == readable("turn.requested", value)


def test_provider_events_may_not_take_our_names() -> None:
    schema = event_schemas()[PROVIDER_EVENT]
    assert valid(schema, {**EVENT, "type": "agent.message"})
    assert not valid(schema, {**EVENT, "type": "turn.completed"})


def test_asyncapi_names_every_topic_and_message() -> None:
    document = asyncapi()
    assert set(document["channels"]) == {topic.name for topic in TOPICS}
    carried = {name for channel in document["channels"].values() for name in channel["messages"]}
    assert carried == set(document["components"]["messages"])
    assert "#/$defs" not in json.dumps(document)


def test_the_tree_is_as_generated_and_breaks_no_release() -> None:
    assert schemas.stale(schemas.generated()) == []
    assert schemas.incompatible() == []


def test_a_lost_type_breaks_a_release(tmp_path: Path) -> None:
    folder = tmp_path / "v9" / "inputs"
    folder.mkdir(parents=True)
    (folder / "turn.forgotten.json").write_text("{}")
    assert schemas.incompatible(tmp_path) == ["v9 inputs turn.forgotten: the type is gone"]


def test_a_broken_field_names_release_type_and_field(tmp_path: Path) -> None:
    folder = tmp_path / "v9" / "inputs"
    folder.mkdir(parents=True)
    released = input_schemas()["interrupt.requested"]
    released["properties"]["why"] = {"type": "string"}
    (folder / "interrupt.requested.json").write_text(json.dumps(released))
    [line] = schemas.incompatible(tmp_path)
    assert line.startswith("v9 inputs interrupt.requested: why: is gone")


def valid(schema: dict[str, Any], value: object) -> bool:
    try:
        Draft202012Validator(schema).validate(value)
    except ValidationError:
        return False
    return True


def readable(kind: str, value: object) -> bool:
    try:
        read_request(kind, json.dumps(value).encode())
    except msgspec.ValidationError:
        return False
    return True
