"""Plans of turns, as data: scripts write them, a turn performs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from infra.simulator.play.usage import NO_TOKENS, Tokens

Retry = Literal["retrying", "exhausted", "terminal"]
Says = Literal["all", "evaluation", "nothing"]
Stop = Literal["end_turn", "refusal", "retries_exhausted"]


@dataclass(frozen=True, slots=True)
class Think:
    """A stretch of extended thinking: one progress event, no content."""


@dataclass(frozen=True, slots=True)
class Say:
    """An agent message. None: the answer to the newest prompt, `reply_to(prompt)`."""

    text: str | None = None


@dataclass(frozen=True, slots=True)
class UseTool:
    """A built-in tool. With `ask` the client must allow it first.

    `says`: whether its event tells so by `evaluated_permission` and `evaluation`, by the latter alone, or not at
    all. `type` and `result` are the types of its events. `ahead`: streams show it behind the idle that names it.
    """

    name: str
    input: dict[str, object]
    output: str
    ask: bool = False
    says: Says = "all"
    type: str = "agent.tool_use"
    result: str = "agent.tool_result"
    ahead: bool = False
    server: str = ""  # an MCP server's tool
    failed: bool = False


@dataclass(frozen=True, slots=True)
class UseCustomTool:
    """A tool the client runs; the turn waits for its result."""

    name: str
    input: dict[str, object]


@dataclass(frozen=True, slots=True)
class Delegate:
    """Work handed to a child thread. With `ask` the child needs a custom tool result."""

    agent_name: str
    brief: str
    ask: bool = False


@dataclass(frozen=True, slots=True)
class ReportUsage:
    """A usage event in the middle of a model request."""


@dataclass(frozen=True, slots=True)
class Evaluate:
    """The grader looks at an outcome the client defined, for the `iteration`th time from 0, with this result."""

    outcome_id: str
    iteration: int = 0
    result: str = "satisfied"


@dataclass(frozen=True, slots=True)
class Compact:
    """The context has grown too long and is replaced by its summary."""


@dataclass(frozen=True, slots=True)
class RunWorkflow:
    """A workflow run of so many phases and threads in each. It completes, unless it `fails` or is `stopped`;
    `refused`: there is none. `after`: it ends after the turn's idle."""

    phases: int = 2
    threads: int = 1
    fails: bool = False
    stopped: bool = False
    refused: bool = False
    after: bool = False


Step = (
    Think
    | Say
    | UseTool
    | UseCustomTool
    | Delegate
    | ReportUsage
    | Evaluate
    | Compact
    | RunWorkflow
)


@dataclass(frozen=True, slots=True)
class Failure:
    """A model request that fails: the `session.error` that follows it."""

    type: str
    message: str
    retry: Retry
    reschedule: bool = False
    server: str = ""  # the MCP server that it is about


@dataclass(frozen=True, slots=True)
class Request:
    """One model request. `burst`: its steps come without a pause between them."""

    steps: tuple[Step, ...] = ()
    tokens: Tokens = NO_TOKENS
    failure: Failure | None = None
    burst: bool = False
    swap: bool = False  # publish a tool result after the event that follows it
    runs: float = 0.0  # seconds that the tools take before their results
    # Of the Messages API alone; a session plays them as a plain request.
    cut_short: bool = False  # the answer ends at `max_tokens`
    pauses: bool = False  # the turn is paused in the middle of a search of the provider's own


@dataclass(frozen=True, slots=True)
class Plan:
    """One turn from running to idle."""

    script: str
    requests: tuple[Request, ...]
    stop: Stop = "end_turn"
    opening_errors: int = 0  # `retrying` errors between the two running events
    unprocessed: bool = False  # the prompt is never marked processed
    inert: bool = False  # the session does nothing ever after
    late: bool = False  # one more event after the idle
    cache: bool = False  # tokens by the session's prompt cache, see cache.py
    cut: bool = False  # deltas end inside of characters that JSON writes as two halves
    # Wait before this request from the end (1: the last) until released or interrupted; 0: nowhere.
    hold: int = 0
    patience: float = 60.0  # seconds after which a held turn goes on by itself
    pace: float | None = None  # overrides the pace of the simulator
