"""A message as a stream of events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from infra.simulator.messages.model import usage_in_stream

JSON = dict[str, Any]
PIECE = 24  # characters of a delta


def events_of(message: JSON) -> Iterator[JSON]:
    """All events of a message, in order."""
    usage = {**message["usage"], "output_tokens": 1}
    begun = {**message, "content": [], "stop_reason": None, "stop_sequence": None}
    yield {"type": "message_start", "message": {**begun, "stop_details": None, "usage": usage}}
    yield {"type": "ping"}
    for index, block in enumerate(message["content"]):
        yield from _block(index, block)
    ended = {key: message[key] for key in ("stop_reason", "stop_sequence", "stop_details")}
    yield {
        "type": "message_delta",
        "delta": {**ended, "container": None},
        "usage": usage_in_stream(message["usage"]),
    }
    yield {"type": "message_stop"}


def record(event: JSON) -> bytes:
    """An event on the wire."""
    name: str = event["type"]
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(event) + b"\n\n"


def _block(index: int, block: JSON) -> Iterator[JSON]:
    empty: JSON = {"text": "", "thinking": "", "signature": "", "input": {}}
    written = {"text", "thinking", "tool_use", "server_tool_use"}
    start = {**block, **{name: empty[name] for name in empty if name in block}}
    if block["type"] not in written:
        start = block
    yield {"type": "content_block_start", "index": index, "content_block": start}
    for delta in _deltas(block):
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def _deltas(block: JSON) -> Iterator[JSON]:
    match block["type"]:
        case "text":
            for piece in _pieces(block["text"]):
                yield {"type": "text_delta", "text": piece}
        case "thinking":
            for piece in _pieces(block["thinking"]):
                yield {"type": "thinking_delta", "thinking": piece}
            yield {"type": "signature_delta", "signature": block["signature"]}
        case "tool_use" | "server_tool_use":
            yield {"type": "input_json_delta", "partial_json": ""}
            for piece in _pieces(msgspec.json.encode(block["input"]).decode()):
                yield {"type": "input_json_delta", "partial_json": piece}
        case _:
            pass


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), PIECE):
        yield text[start : start + PIECE]
