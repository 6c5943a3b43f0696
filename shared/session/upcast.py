"""Old event shapes to today's, on read. Recorded events are never rewritten; each step lifts one shape by one.

A step is registered under (type, shape) and returns the data in the next shape; data without `shape` is shape 1.
There is no older shape yet: version 0.1 is the first, and its recorded logs in tests/golden keep folding. Only
Turnstile's own events have shapes; the provider's are read as far as they fit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from shared.session.events import Event

Step = Callable[[dict[str, Any]], dict[str, Any]]
Steps = dict[tuple[str, int], Step]

STEPS: Steps = {}


class UnknownShape(Exception):
    """An event of a shape that this build can't lift: a newer build wrote it, or a step is missing."""


class _Shaped(Struct):
    shape: int = 1


_shaped = msgspec.json.Decoder(_Shaped)


def lifted(event: Event, steps: Steps = STEPS) -> Event:
    """An event of our own with its data in the newest shape. Raises UnknownShape, naming type, seq and shape."""
    newest = 1 + max((shape for kind, shape in steps if kind == event.type), default=0)
    shape = _shaped.decode(event.data).shape if b'"shape"' in bytes(event.data) else 1
    if shape == newest:
        return event
    data = msgspec.json.decode(event.data)
    while (step := steps.get((event.type, shape))) is not None:
        shape += 1
        data = {**step(data), "shape": shape}
    if shape != newest:
        raise UnknownShape(
            f"{event.type} at seq {event.seq} has shape {shape}; this build reads up to {newest}"
        )
    return replace(event, data=Raw(msgspec.json.encode(data)))
