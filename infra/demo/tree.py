"""One turn's trace as an indented tree of spans."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Span:
    """One row of otel_traces. `parent_id` is empty at the root, `duration_ns` nanoseconds."""

    span_id: str
    parent_id: str
    name: str
    service: str
    start: datetime
    duration_ns: int
    failed: bool = False


def tree(spans: Sequence[Span]) -> str:
    """The spans as lines, children under their parents in order of start.

    A span whose parent is not among them counts as a root: spans arrive in any order.
    """
    known = {span.span_id for span in spans}
    children: dict[str, list[Span]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: span.start):
        children[span.parent_id if span.parent_id in known else ""].append(span)
    first = min((span.start for span in spans), default=None)
    lines: list[str] = []

    def add(parent: str, depth: int) -> None:
        for span in children[parent]:
            lines.append(_line(span, depth, first or span.start))
            add(span.span_id, depth + 1)

    add("", 0)
    return "\n".join(lines)


def _line(span: Span, depth: int, first: datetime) -> str:
    after = (span.start - first).total_seconds() * 1000
    name = "  " * depth + span.name
    mark = "  FAILED" if span.failed else ""
    return f"{after:9.1f} ms  {span.duration_ns / 1e6:9.1f} ms  {name}  ({span.service}){mark}"
