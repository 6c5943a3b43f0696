"""Old event shapes to today's, on read. Recorded events are never rewritten; each step lifts one shape by one.

A step is registered under (type, shape) and returns the data in the next shape; data without `shape` is shape 1.
There is no older shape yet: version 0.1 is the first, and its recorded logs in tests/golden keep folding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Step = Callable[[dict[str, Any]], dict[str, Any]]

STEPS: dict[tuple[str, int], Step] = {}


def upcast(
    kind: str, data: dict[str, Any], steps: dict[tuple[str, int], Step] = STEPS
) -> dict[str, Any]:
    """`data` of an event of type `kind` in the newest shape."""
    shape = int(data.get("shape", 1))
    while (step := steps.get((kind, shape))) is not None:
        shape += 1
        data = {**step(data), "shape": shape}
    return data
