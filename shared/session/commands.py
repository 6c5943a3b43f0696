"""What a session asks its worker to do. Private and free to change; each is safe to perform again after a crash.

A command is journaled in the head row with the events that caused it and stays there until it was done; whoever
performs one found there *looks first* whether it already happened.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct


class Command(Struct, frozen=True, kw_only=True, tag_field="do", omit_defaults=True):
    """Base of the commands; `do` names which on disk."""


class Open(Command, frozen=True, kw_only=True, tag="open"):
    """Make, find or adopt the provider session for the open turn, or, with a `turn_id` of "", before any turn; ends
    in Bound or Failed."""

    turn_id: str


class Send(Command, frozen=True, kw_only=True, tag="send"):
    """Put the turn's content (the request filed as `input_id`) to the agent, exactly once per attempt.

    `look` says that a message of an earlier try may be there already. `riders` are further requests whose content
    goes into the same message. `nudge`: the agent has the content and was interrupted; tell it to go on.
    """

    turn_id: str
    input_id: str
    attempt: int
    look: bool
    riders: tuple[str, ...] = ()
    nudge: bool = False


class Steer(Command, frozen=True, kw_only=True, tag="steer"):
    """Put the content of the turn (the request filed as `input_id`) to the agent while it is at work on the turn
    `joins`. One that can't be put waits for that turn's end, and goes out by itself."""

    turn_id: str
    input_id: str
    joins: str


class Interrupt(Command, frozen=True, kw_only=True, tag="interrupt"):
    """Stop the agent if `turn_id` is still the turn that runs."""

    turn_id: str


class Answer(Command, frozen=True, kw_only=True, tag="answer"):
    """Give a pending tool call what the request filed as `input_id` says."""

    tool_use_id: str
    input_id: str


class Deny(Command, frozen=True, kw_only=True, tag="deny"):
    """Answer a pending tool call in the stead of people who did not."""

    tool_use_id: str


class RaiseBudget(Command, frozen=True, kw_only=True, tag="raise_budget"):
    """Let the provider session spend what the session's `budget_usd`, asked for by the request `input_id`, leaves
    it; ends in BudgetSet or BudgetRefused. `pause`: see BudgetSet."""

    input_id: str
    budget_usd: float
    pause: str = ""


class Close(Command, frozen=True, kw_only=True, tag="close"):
    """Archive the provider session, and delete it when `erase`."""

    provider_session_id: str
    erase: bool


class DeadLetter(Command, frozen=True, kw_only=True, tag="dead"):
    """Put the request filed as `input_id`, which failed after so many attempts, into the dead letters with the
    reason."""

    input_id: str
    reason: str
    detail: str
    attempts: int = 1


AnyCommand = Open | Send | Steer | Interrupt | Answer | Deny | RaiseBudget | Close | DeadLetter


def encode(commands: tuple[AnyCommand, ...]) -> bytes:
    """Commands as the head row keeps them."""
    return msgspec.json.encode(commands)


def decode(data: bytes) -> tuple[AnyCommand, ...]:
    """The commands of a head row."""
    return msgspec.json.decode(data, type=tuple[AnyCommand, ...])
