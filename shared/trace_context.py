"""A trace context as one text: a `traceparent` and, behind a blank, its `tracestate` when it has one.

Source: W3C Trace Context, level 1, sections 3.2 and 3.3. Pure, and without the SDK: the core keeps such texts too.
"""

from __future__ import annotations

import re

# The level's own form has 55 characters; a later one may have more behind it, of which this much is kept.
MAX_PARENT = 64
# What section 3.3.1.5 wants carried at least, and section 3.3.1.1 allows at most.
MAX_STATE = 512
MAX_MEMBERS = 32
_MEMBER = re.compile(
    r"([a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)


def joined(traceparent: str, tracestate: str) -> str:
    """The context's text. A `tracestate` that is none, is too large, or comes without `traceparent` is left out."""
    state = _valid(tracestate) if traceparent and tracestate else ""
    parent = traceparent.partition(" ")[0][:MAX_PARENT]
    return f"{parent} {state}" if state else parent


def parted(context: str) -> tuple[str, str]:
    """`traceparent` and `tracestate` of the context's text, each as its header; "" for what it has not."""
    parent, _, state = context.partition(" ")
    return parent, state


def _valid(tracestate: str) -> str:
    """The list without white space between its members; "" when one is malformed or comes twice, or there are too
    many."""
    members = [text for member in tracestate.split(",") if (text := member.strip(" \t"))]
    keys = {member.partition("=")[0] for member in members}
    state = ",".join(members)
    within = len(members) <= MAX_MEMBERS and len(state) <= MAX_STATE
    sound = len(keys) == len(members) and all(map(_MEMBER.fullmatch, members))
    return state if within and sound else ""
