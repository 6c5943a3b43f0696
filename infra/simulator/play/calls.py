"""Tool calls that wait for the client, and its answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["confirm", "custom", "tool"]
State = Literal["open", "answered", "closed"]
Echo = Literal["once", "early", "bare"]


@dataclass(slots=True)
class Call:
    """A tool use the client must answer: allow or deny it, or give its result.

    `closed` means an interrupt ended it before an answer came.
    """

    id: str
    kind: Kind
    thread_id: str
    state: State = "open"
    answer: Input | None = None


@dataclass(slots=True)
class Input:
    """One event a client sent, as the API shows it while it is queued (no `processed_at`).

    `echo` says how streams see it: `once`, when it is processed; `early`, when it is accepted and
    again when it is processed; `bare`, at the place where it is processed but without the time.
    """

    id: str
    type: str
    body: dict[str, Any]
    received_at: int  # microseconds
    echo: Echo = "once"
    call: Call | None = None  # for tool answers
    extra: dict[str, Any] = field(default_factory=dict)  # added when it is processed
