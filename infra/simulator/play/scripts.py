"""Scripts: each turns a prompt, dice and options into a plan; none has effects.

The first line of a script's docstring is its help text, and so is its option list after `Options:`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random

from infra.simulator.play.plan import (
    Compact,
    Delegate,
    Evaluate,
    Failure,
    Plan,
    ReportUsage,
    Request,
    RunWorkflow,
    Say,
    Says,
    Step,
    Think,
    UseCustomTool,
    UseTool,
)
from infra.simulator.play.usage import Tokens

MAX_REQUESTS = 200
COMMON_OPTIONS = frozenset({"pace", "hold", "patience", "late", "times", "cut", "cache"})
TOOLS = ("bash", "read", "grep", "write", "web_search")
FRUITLESS = Tokens()
SAYS: tuple[Says, ...] = ("all", "evaluation", "nothing")


@dataclass(frozen=True, slots=True)
class Brief:
    """What a script may look at."""

    prompt: str
    dice: Random
    options: Mapping[str, float] = field(default_factory=dict)

    def number(self, key: str, default: int, most: int = MAX_REQUESTS) -> int:
        """A whole-number option between 0 and `most`."""
        return max(0, min(most, int(self.options.get(key, default))))

    def flag(self, key: str) -> bool:
        return bool(self.options.get(key, 0))


def reply(brief: Brief) -> Plan:
    """Some thinking, then one message: the answer. Ends with end_turn."""
    steps: list[Step] = [Think()] if brief.dice.random() < 0.7 else []
    return Plan("reply", (Request((*steps, Say()), _tokens(brief, 0)),))


def tools(brief: Brief) -> Plan:
    """Several model requests with built-in tool calls and their results, then the answer.

    Options: rounds (3), calls per round (1 to 3 by the dice), swap=1 (a result reaches the stream
    after the event that follows it in the list), bytes (0, at most 100000000) more in each result, runs (0)
    seconds that the tools of a round take.
    """
    rounds = brief.number("rounds", 3)
    requests = [
        Request(
            (Think(), *_tool_steps(brief, index), *([ReportUsage()] if index == 1 else [])),
            _tokens(brief, index),
            swap=brief.flag("swap") or brief.dice.random() < 0.05,
            runs=brief.options.get("runs", 0.0),
        )
        for index in range(rounds)
    ]
    return Plan("tools", (*requests, Request((Say(),), _tokens(brief, rounds))))


def confirm(brief: Brief) -> Plan:
    """Tool calls that wait for the client's allow or deny, then the answer.

    Options: calls (1), bare (0; 1: the calls have no `evaluated_permission`, 2: no `evaluation` either), ahead=1
    (streams show the idle before the last of the calls that it waits for).
    """
    count = brief.number("calls", 1) or 1
    calls = tuple(
        UseTool(
            "bash",
            {"command": f"make step-{index}"},
            f"step {index} done",
            ask=True,
            says=SAYS[brief.number("bare", 0, most=2)],
            ahead=brief.flag("ahead") and index == count - 1,
        )
        for index in range(count)
    )
    return _asking(brief, "confirm", calls)


def unfamiliar(brief: Brief) -> Plan:
    """Calls of a type that no client knows yet wait for allow or deny, then the answer.

    Options: calls (1), ahead=1 (as for confirm).
    """
    count = brief.number("calls", 1) or 1
    calls = tuple(
        UseTool(
            "browser",
            {"url": f"https://example.com/{index}"},
            f"page {index}",
            ask=True,
            says="nothing",
            type="agent.browser_use",
            result="agent.browser_result",
            ahead=brief.flag("ahead") and index == count - 1,
        )
        for index in range(count)
    )
    return _asking(brief, "unfamiliar", calls)


def _asking(brief: Brief, script: str, calls: tuple[UseTool, ...]) -> Plan:
    asking = Request((Think(), Say("I need your permission first."), *calls), _tokens(brief, 0))
    return Plan(script, (asking, Request((Say(),), _tokens(brief, 1))))


def custom_tool(brief: Brief) -> Plan:
    """Calls of tools the client runs itself; waits for their results, then the answer.

    Options: calls (1), rounds (1).
    """
    rounds = brief.number("rounds", 1) or 1
    requests = [
        Request((Think(), *_custom_steps(brief, index)), _tokens(brief, index))
        for index in range(rounds)
    ]
    return Plan("custom_tool", (*requests, Request((Say(),), _tokens(brief, rounds))))


def threads(brief: Brief) -> Plan:
    """Child threads work on parts of the prompt; the primary thread shows them condensed.

    Options: children (2), ask=1 (each child needs a custom tool result).
    """
    names = ("researcher", "checker", "writer", "editor")
    work = tuple(
        Delegate(
            names[index % 4] + ("" if index < 4 else f" {index}"),
            _brief(brief, index),
            brief.flag("ask"),
        )
        for index in range(brief.number("children", 2, most=25) or 1)
    )
    return Plan(
        "threads",
        (
            Request((Think(), *work), _tokens(brief, 0)),
            Request((Say("I have passed parts of this on; results follow."),), _tokens(brief, 1)),
            Request((Think(), Say()), _tokens(brief, 2)),
        ),
    )


def long(brief: Brief) -> Plan:
    """Hundreds of events in bursts, as a real working agent makes them, then the answer.

    Options: events (300, at most 20000).
    """
    events = brief.number("events", 300, most=20_000)
    requests: list[Request] = []
    made = 0
    while made < events and len(requests) < 2_000:
        calls = brief.dice.randrange(1, 13)
        steps: list[Step] = [Think(), Say(f"Step {len(requests) + 1}: looking further.")]
        steps += [_call(brief, made + index) for index in range(calls)]
        if len(requests) % 5 == 2:
            steps.append(ReportUsage())
        requests.append(Request(tuple(steps), _tokens(brief, len(requests)), burst=True))
        made += len(steps) + calls + 2
    return Plan("long", (*requests, Request((Say(),), _tokens(brief, len(requests)))))


def refusal(brief: Brief) -> Plan:
    """The model declines: idle with stop reason refusal and stop_details."""
    return Plan("refusal", (Request((Think(),), _tokens(brief, 0)),), stop="refusal")


def retries_exhausted(brief: Brief) -> Plan:
    """Model requests fail until the provider gives up: idle with retries_exhausted.

    Options: errors (2) retried before it gives up.
    """
    busy = Failure("model_overloaded_error", "The model is overloaded.", "retrying")
    last = replace(busy, retry="exhausted")
    failing = [Request((), FRUITLESS, busy)] * brief.number("errors", 2)
    return Plan(
        "retries_exhausted", (*failing, Request((), FRUITLESS, last)), stop="retries_exhausted"
    )


def error_retrying(brief: Brief) -> Plan:
    """Errors the provider retries by itself, one between the running events, then the answer.

    Options: errors (2).
    """
    busy = Failure("model_rate_limited_error", "The model is rate limited.", "retrying")
    failing = [
        Request((Think(),), FRUITLESS, replace(busy, reschedule=index == 0))
        for index in range(brief.number("errors", 2))
    ]
    return Plan(
        "error_retrying", (*failing, Request((Say(),), _tokens(brief, 0))), opening_errors=1
    )


def exhausted(brief: Brief) -> Plan:
    """The turn dies with an exhausted error; messages queued behind it are never processed.

    Options: unprocessed=1 (nor is its own message; by the dice if not given), inert=1 (the session
    accepts messages afterwards and never works on them).
    """
    failure = Failure("billing_error", "The organization is out of credit.", "exhausted")
    unprocessed = brief.options.get("unprocessed")
    return Plan(
        "exhausted",
        (Request((), FRUITLESS, failure),),
        stop="retries_exhausted",
        unprocessed=brief.dice.random() < 0.5 if unprocessed is None else bool(unprocessed),
        inert=brief.flag("inert"),
    )


def terminal(brief: Brief) -> Plan:
    """A fatal error: the session is terminated without an idle or a usage event."""
    failure = Failure("model_request_failed_error", "The prompt is too long.", "terminal")
    return Plan("terminal", (Request((), FRUITLESS, failure),))


def budget(brief: Brief) -> Plan:
    """Dear model requests; a session with a budget stops at it until the budget is raised.

    Options: rounds (3), cents (100) per model request.
    """
    cents = brief.number("cents", 100, most=1_000_000)
    rounds = brief.number("rounds", 3)
    requests = [
        Request(
            (*_tool_steps(brief, index), *([Say()] if index == rounds - 1 else [])),
            replace(_tokens(brief, index), extra_cents=cents),
        )
        for index in range(rounds)
    ]
    return Plan("budget", (*requests, Request((Say(),), _tokens(brief, rounds))))


def mcp(brief: Brief) -> Plan:
    """Tools of an MCP server and their results, then the answer. An agent that has a server of its name (library)
    can't do without: a turn whose session it does not take dies.

    Options: calls (1), failed=1 (the first result is an error), rounds (1).
    """
    count = brief.number("calls", 1) or 1
    calls = tuple(
        UseTool(
            "search",
            {"query": f"part {index}"},
            "not found" if brief.flag("failed") and index == 0 else f"{index} pages",
            type="agent.mcp_tool_use",
            result="agent.mcp_tool_result",
            server="library",
            failed=brief.flag("failed") and index == 0,
        )
        for index in range(count)
    )
    rounds = brief.number("rounds", 1) or 1
    asking = [Request((Think(), *calls), _tokens(brief, index)) for index in range(rounds)]
    return Plan("mcp", (*asking, Request((Say(),), _tokens(brief, rounds))))


def compaction(brief: Brief) -> Plan:
    """The context is compacted between two model requests, then the answer.

    Options: rounds (1).
    """
    rounds = [
        Request((Think(), _call(brief, index), Compact()), _tokens(brief, index))
        for index in range(brief.number("rounds", 1) or 1)
    ]
    return Plan("compaction", (*rounds, Request((Say(),), _tokens(brief, len(rounds)))))


def workflow(brief: Brief) -> Plan:
    """A workflow run in phases, each with threads of its own, then the answer.

    Options: phases (2), threads (1) of a phase, fails=1, stopped=1, refused=1 (there are too many runs), after=1
    (the run ends after the idle).
    """
    run = RunWorkflow(
        phases=brief.number("phases", 2, most=20) or 1,
        threads=brief.number("threads", 1, most=25),
        **{name: brief.flag(name) for name in ("fails", "stopped", "refused", "after")},
    )
    return Plan(
        "workflow",
        (
            Request((Think(), run), _tokens(brief, 0)),
            Request((Say(),), _tokens(brief, 1)),
        ),
    )


def max_tokens(brief: Brief) -> Plan:
    """The first answer is cut at max_tokens (of the Messages API; a session plays a plain reply)."""
    return Plan("max_tokens", (Request((Think(), Say()), _tokens(brief, 0), cut_short=True),))


def pause_turn(brief: Brief) -> Plan:
    """Turns paused in the middle of a web search (of the Messages API, where the tool is offered).

    Options: rounds (1).
    """
    rounds = [
        Request((Say(f"Searching, part {index + 1}."),), _tokens(brief, index), pauses=True)
        for index in range(brief.number("rounds", 1) or 1)
    ]
    return Plan("pause_turn", (*rounds, Request((Say(),), _tokens(brief, len(rounds)))))


def outcome(brief: Brief, outcome_id: str, iterations: int) -> Plan:
    """Work towards an outcome and the evaluations of it, by the description of `user.define_outcome`.

    Options: revise (0) times the result needs revision first, failed=1 (the rubric cannot be applied), graded (0)
    tokens that an evaluation reads, which only the session's usage tells.
    """
    revise, graded = brief.number("revise", 0), Tokens(fresh=brief.number("graded", 0, most=10**6))
    requests: list[Request] = []
    for iteration in range(min(revise + 1, iterations)):
        if iteration < revise:
            last = iteration == iterations - 1
            result = "max_iterations_reached" if last else "needs_revision"
        else:
            result = "failed" if brief.flag("failed") else "satisfied"
        work = replace(_tokens(brief, iteration), output=300)
        requests.append(Request((Think(), Say()), work))
        requests.append(Request((Evaluate(outcome_id, iteration, result),), graded))
    return Plan("outcome", tuple(requests))


Script = Callable[[Brief], Plan]
SCRIPTS: dict[str, Script] = {
    script.__name__: script
    for script in (
        reply, tools, confirm, unfamiliar, custom_tool, threads, long, refusal, retries_exhausted,
        error_retrying, exhausted, terminal, budget, mcp, compaction, workflow,
        max_tokens, pause_turn,
    )
}  # fmt: skip
OPTIONS: dict[str, frozenset[str]] = {
    "tools": frozenset({"rounds", "calls", "swap", "bytes", "runs"}),
    "confirm": frozenset({"calls", "bare", "ahead"}),
    "unfamiliar": frozenset({"calls", "ahead"}),
    "custom_tool": frozenset({"calls", "rounds"}),
    "threads": frozenset({"children", "ask"}),
    "long": frozenset({"events"}),
    "retries_exhausted": frozenset({"errors"}),
    "error_retrying": frozenset({"errors"}),
    "exhausted": frozenset({"unprocessed", "inert"}),
    "budget": frozenset({"rounds", "cents"}),
    "mcp": frozenset({"calls", "failed", "rounds"}),
    "compaction": frozenset({"rounds"}),
    "pause_turn": frozenset({"rounds"}),
    "workflow": frozenset({"phases", "threads", "fails", "stopped", "refused", "after"}),
    "outcome": frozenset({"revise", "failed", "graded"}),
}


def _tool_steps(brief: Brief, index: int) -> tuple[Step, ...]:
    calls = brief.number("calls", brief.dice.randrange(1, 4))
    return tuple(_call(brief, 10 * index + call) for call in range(calls))


def _custom_steps(brief: Brief, index: int) -> tuple[Step, ...]:
    return tuple(
        UseCustomTool("lookup", {"query": f"item {10 * index + call}"})
        for call in range(brief.number("calls", 1) or 1)
    )


def _call(brief: Brief, number: int) -> UseTool:
    name = brief.dice.choice(TOOLS)
    size = brief.dice.randrange(1, 40)
    more = "a long result: \u00e9\n" * (brief.number("bytes", 0, most=100_000_000) // 18)
    output = f"{name} result {number}\n" + "line of output\n" * size + more
    return UseTool(name, {"query": f"part {number}"}, output)


def _brief(brief: Brief, index: int) -> str:
    return f"Part {index + 1} of: {brief.prompt[:200]}"


def _tokens(brief: Brief, index: int) -> Tokens:
    """Context grows from request to request: the first is written to the cache, for an hour where the prompt has
    an even length, and later ones read it."""
    size = len(brief.prompt) // 4
    output = brief.dice.randrange(20, 900)
    if index == 0:
        fresh = brief.dice.randrange(3, 400) + size
        hour = 2_100 if len(brief.prompt) % 2 == 0 else 0
        return Tokens(fresh=fresh, output=output, cache_write=2_100, cache_hour=hour)
    return Tokens(
        fresh=brief.dice.randrange(3, 900), output=output, cache_read=2_100 + size + 700 * index
    )
