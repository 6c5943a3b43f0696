"""The AsyncAPI 3.0 document of the bus: topics, messages, headers. Built from the closed lists, never by hand."""

from __future__ import annotations

from typing import Any

from shared.bus.envelope import JSON, SPEC_VERSION
from shared.bus.models import PROVIDER_EVENT, event_schemas, input_schemas
from shared.bus.parts import PART, PART_BYTES, PART_SEQ, SLICE
from shared.bus.topics import DEAD, EVENTS, INPUTS, PREVIEWS, TOPICS, Topic

Json = dict[str, Any]

VERSION = "1.0.0"
ABOUT = (
    "User turns in, recorded facts out. CloudEvents 1.0 in Kafka's binary mode: attributes in `ce_*` headers, "
    "the JSON value as it is. The key is the session id in UTF-8, partitioned as the Java client does (murmur2)."
)
DEAD_HEADERS = {
    "dead_reason": "A stable word for why nobody could use the record.",
    "dead_detail": "The same in words, naming the field where there is one.",
    "dead_attempts": "How often it was tried, as a decimal number.",
    "dead_at": "When it was put aside (RFC 3339, UTC).",
    "dead_source": "Where it came from: topic/partition/offset.",
}


def asyncapi() -> Json:
    """The whole document, in AsyncAPI's own order; `receive` is what Turnstile reads, `send` what it writes."""
    messages = {
        **_inputs(),
        **_events(),
        "event.part": _part(),
        "preview": _preview(),
        "dead.letter": _dead_letter(),
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Turnstile", "version": VERSION, "description": ABOUT},
        "defaultContentType": JSON,
        "channels": {topic.name: _channel(topic, _carried(topic)) for topic in TOPICS},
        "operations": {
            "takeInput": _operation("receive", INPUTS, "Any service may publish here."),
            "recordEvent": _operation("send", EVENTS, "Facts, numbered by seq per session."),
            "preview": _operation("send", PREVIEWS, "Token deltas: best effort, never archived."),
            "buryInput": _operation("send", DEAD, "Records nobody could use, as they came."),
        },
        "components": {"messages": messages, "schemas": {**_headers(), **_parts()}},
    }


def _carried(topic: Topic) -> list[str]:
    carried = {
        INPUTS.name: list(input_schemas()),
        EVENTS.name: [*event_schemas(), "event.part"],
        PREVIEWS.name: ["preview"],
        DEAD.name: ["dead.letter"],
    }
    return carried[topic.name]


def _channel(topic: Topic, carried: list[str]) -> Json:
    config = {
        "cleanup.policy": [topic.cleanup],
        "retention.ms": topic.retention_ms,
        "max.message.bytes": topic.max_message_bytes,
    }
    kafka = {"topic": topic.name, "partitions": topic.partitions, "topicConfiguration": config}
    return {
        "address": topic.name,
        "description": f"{topic.holds}. Written by: {topic.producers}. Read by: {topic.consumers}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in carried},
        "bindings": {"kafka": {**kafka, "bindingVersion": "0.5.0"}},
    }


def _operation(action: str, topic: Topic, about: str) -> Json:
    channel = {"$ref": f"#/channels/{topic.name}"}
    return {"action": action, "channel": channel, "summary": about}


def _inputs() -> Json:
    return {kind: _message(kind, schema) for kind, schema in input_schemas().items()}


def _events() -> Json:
    return {kind: _message(kind, schema) for kind, schema in event_schemas().items()}


def _message(kind: str, schema: Json) -> Json:
    attributes: Json = {"$ref": "#/components/schemas/cloudEvent"}
    headers = attributes
    if kind != PROVIDER_EVENT:
        named = {"type": "object", "properties": {"ce_type": {"const": kind}}}
        headers = {"allOf": [attributes, named]}
    about = str(schema.get("description", "")).split("\n")[0]
    return {**_base(kind, about), "headers": headers, "payload": _inline(schema)}


def _parts() -> Json:
    """The shapes that payloads refer to, once each."""
    documents = [*input_schemas().values(), *event_schemas().values()]
    return {
        name: _inline(part)
        for document in documents
        for name, part in document.get("$defs", {}).items()
    }


def _inline(schema: Any) -> Any:
    """A schema as part of this document: its references lead to `#/components/schemas`."""
    if isinstance(schema, list):
        return [_inline(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        target = schema["$ref"].replace("#/$defs/", "#/components/schemas/")
        return {**schema, "$ref": target}
    return {
        key: _inline(value)
        for key, value in schema.items()
        if key not in ("$schema", "$id", "$defs")
    }


def _preview() -> Json:
    about = "A token delta of the provider: best effort, without a seq, never archived."
    attributes = {"$ref": "#/components/schemas/cloudEvent"}
    names = ("tenant_id", "session_id", "type", "at")
    fields: Json = {name: {"type": "string"} for name in names}
    fields["turn_id"] = {"type": ["string", "null"]}
    numbered = "Counts the previews of one message: 0 is its start; who misses one has no use for later ones."
    fields["number"] = {"type": "integer", "description": numbered}
    fields["data"] = {"type": "object", "description": "The provider's JSON, as it came."}
    payload = {"type": "object", "properties": fields, "required": [*names, "data"]}
    return {**_base("preview", about), "headers": attributes, "payload": payload}


def _part() -> Json:
    about = (
        f"A slice of the JSON of an event that has more than {PART_BYTES} bytes. Join the values of all parts of "
        "one key, ce_source and part_seq in the order of their numbers; the same part may come twice."
    )
    attributes: Json = {"$ref": "#/components/schemas/cloudEvent"}
    marks: Json = {"$ref": "#/components/schemas/eventPart"}
    payload = {"type": "string", "contentMediaType": SLICE}
    base = {**_base("event.part", about), "contentType": SLICE}
    return {**base, "headers": {"allOf": [attributes, marks]}, "payload": payload}


def _dead_letter() -> Json:
    about = "A record as it came (its value may be anything), with the reason in its headers."
    marks = {"$ref": "#/components/schemas/deadLetter"}
    return {**_base("dead.letter", about), "headers": marks, "payload": {}}


def _base(name: str, about: str) -> Json:
    key = {"type": "string", "description": "The session id."}
    return {
        "name": name,
        "summary": about,
        "contentType": JSON,
        "bindings": {"kafka": {"key": key, "bindingVersion": "0.5.0"}},
    }


def _headers() -> Json:
    """The header schemas that messages share; on the wire every header is UTF-8 bytes."""
    attributes = {
        "ce_specversion": {"const": SPEC_VERSION},
        "ce_id": {"type": "string", "description": "Unique per source; a repeat has the same."},
        "ce_source": {"type": "string", "description": "Who publishes, as a URI reference."},
        "ce_type": {"type": "string", "description": "The bare type, such as turn.requested."},
        "ce_time": {"type": "string", "description": "RFC 3339."},
        "ce_subject": {"type": "string", "description": "The session id; equal to the key."},
        "content-type": {"enum": [JSON, SLICE], "description": "The second of parts alone."},
        "traceparent": {"type": "string", "description": "W3C Trace Context."},
        "tracestate": {
            "type": "string",
            "description": "W3C Trace Context; with traceparent only.",
        },
    }
    marks = {name: {"type": "string", "description": text} for name, text in DEAD_HEADERS.items()}
    needed = ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_subject"]
    return {
        "cloudEvent": {"type": "object", "properties": attributes, "required": needed},
        "eventPart": {"type": "object", "properties": _part_marks(), "required": [PART, PART_SEQ]},
        "deadLetter": {"type": "object", "properties": marks, "required": list(marks)},
    }


def _part_marks() -> Json:
    return {
        PART: {"type": "string", "description": "Which part of how many: 2/3."},
        PART_SEQ: {"type": "string", "description": "The event's seq, as a decimal number."},
    }
