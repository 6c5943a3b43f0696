"""The ways a turn can go. Each course writes its events between `turn.started` and the turn's end, as the
provider sends them (orders and fields as recorded from the simulator), and returns how it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from msgspec import Raw

from infra.simulator.play.usage import Tokens
from shared.session.events import PendingAction, TurnRequiresAction
from tests.synthetic.tape import Tape
from tests.synthetic.texts import lines, words

End = str  # the provider's stop reason, or `lost`, `retry`
# Name, seconds a call takes in the middle, share of calls that fail.
BUILT_IN = (
    ("bash", 2.0, 0.08),
    ("read", 0.05, 0.01),
    ("grep", 0.2, 0.02),
    ("web_search", 1.5, 0.05),
)
MCP = (("github", "list_issues", 0.6, 0.03), ("wiki", "find_page", 0.4, 0.12))
CUSTOM = (("lookup", 0.3, 0.02), ("refund", 1.2, 0.1))
CHILDREN = ("researcher", "checker", "writer", "editor")
HELD_S = 900.0  # how long people take to allow something, in the middle


def reply(tape: Tape) -> End:
    """Thinking and an answer."""
    tape.running()
    _asked(tape)
    with _request(tape):
        _say(tape, tape.chance.randrange(20, 260))
    return "end_turn"


def tools(tape: Tape) -> End:
    """Rounds of built-in tools, sometimes those of an MCP server, then the answer."""
    tape.running()
    _asked(tape)
    for _ in range(tape.chance.choice((1, 1, 2, 2, 3, 5, 8))):
        with _request(tape):
            calls = [_call(tape) for _ in range(tape.chance.choice((1, 1, 1, 2, 3)))]
        for kind, ident, seconds, fails in calls:
            _result(tape, kind, ident, seconds, fails)
    with _request(tape):
        _say(tape, tape.chance.randrange(40, 400))
    return "end_turn"


def custom(tape: Tape) -> End:
    """A tool that is answered from outside: the turn waits for it."""
    tape.running()
    _asked(tape)
    name, seconds, fails = tape.chance.choice(CUSTOM)
    query = {"query": words(tape.chance, 4)}
    with _request(tape):
        call = tape.seen("agent.custom_tool_use", name=name, input=query)
        _count_call(tape)
    _asks(tape, call, "custom_tool", name, query)
    tape.wait(_around(tape, seconds))
    failed = tape.chance.random() < fails
    content = [{"type": "text", "text": words(tape.chance, 25)}]
    tape.seen("user.custom_tool_result", custom_tool_use_id=call, content=content, is_error=failed)
    tape.running()
    with _request(tape):
        _say(tape, tape.chance.randrange(20, 120))
    return "end_turn"


def confirm(tape: Tape) -> End:
    """A tool that needs leave: a person answers after a while, not always yes."""
    tape.running()
    _asked(tape)
    command = {"command": words(tape.chance, 6)}
    with _request(tape):
        call = tape.seen(
            "agent.tool_use", name="bash", input=command,
            evaluated_permission="ask", evaluation={"type": "always_ask"},
        )  # fmt: skip
        _count_call(tape)
    _asks(tape, call, "confirmation", "bash", command)
    tape.wait(_around(tape, HELD_S))
    said = "allow" if tape.chance.random() < 0.85 else "deny"
    tape.seen("user.tool_confirmation", tool_use_id=call, result=said)
    tape.running()
    _result(tape, "agent.tool_result", call, 1.0, 1.0 if said == "deny" else 0.05)
    with _request(tape):
        _say(tape, tape.chance.randrange(20, 120))
    return "end_turn"


def threads(tape: Tape) -> End:
    """Parts of the work go to child threads, whose own log is listed when they are done."""
    tape.running()
    _asked(tape)
    children = [tape.ident("sthr") for _ in range(tape.chance.choice((2, 2, 3)))]
    with _request(tape):
        for child, name in zip(children, CHILDREN, strict=False):
            tape.seen("session.thread_created", session_thread_id=child, agent_name=name)
            tape.seen(
                "agent.thread_message_sent", to_session_thread_id=child, to_agent_name=name,
                content=[{"type": "text", "text": words(tape.chance, 15)}],
            )  # fmt: skip
    for child in children:
        with _request(tape, child):
            call = _call(tape, child)
        _result(tape, *call, child)
        with _request(tape, child):
            _say(tape, 60, child)
    with _request(tape):
        _say(tape, tape.chance.randrange(60, 300))
    return "end_turn"


def declined(tape: Tape) -> End:
    """The model declines."""
    tape.running()
    _asked(tape)
    with _request(tape):
        pass
    return "refusal"


def interrupted(tape: Tape) -> End:
    """A person stops the agent in the middle of an answer, or while a tool runs, which then gives no result."""
    tape.running()
    _asked(tape)
    with _request(tape):
        _say(tape, 30)
        if tape.chance.random() < 0.4:
            _call(tape)
    tape.seen("user.interrupt")
    return "interrupted"


def overloaded(tape: Tape) -> End:
    """Model requests fail until the provider gives this attempt up."""
    tape.running()
    _asked(tape)
    for state in ("retrying", "retrying", "exhausted"):
        with _request(tape, failed=True):
            pass
        error = {"type": "model_overloaded_error", "message": "The model is overloaded."}
        tape.seen("session.error", error={**error, "retry_status": {"type": state}})
    return "retries_exhausted"


def lost(tape: Tape) -> End:
    """The provider session dies of an error."""
    tape.running()
    _asked(tape)
    with _request(tape, failed=True):
        pass
    error = {"type": "model_request_failed_error", "message": "The prompt is too long."}
    tape.seen("session.error", error={**error, "retry_status": {"type": "terminal"}})
    tape.seen("session.status_terminated")
    return "lost"


Course = Callable[[Tape], End]
# In hundredths: of a hundred turns so many take this course at first.
SHARES: tuple[tuple[Course, int], ...] = (
    (reply, 48), (tools, 30), (custom, 6), (confirm, 4), (threads, 3), (declined, 2), (interrupted, 3),
    (overloaded, 3), (lost, 1),
)  # fmt: skip


def _asks(tape: Tape, call: str, kind: Any, name: str, given: dict[str, str]) -> None:
    """The session rests until somebody answers; the turn says for what."""
    since = tape.now
    tape.idle("requires_action", [call])
    if tape.turn:
        tape.turn.status = "requires_action"
        asked = PendingAction(
            tool_use_id=call,
            kind=kind,
            name=name,
            input=Raw(msgspec.json.encode(given)),
            since=since,
        )
        waiting = TurnRequiresAction(**tape.turn.fields(), pending_actions=(asked,))
        tape.own("turn.requires_action", waiting)
        tape.turn.status = "running"


def _asked(tape: Tape) -> None:
    tape.seen("user.message", content=[{"type": "text", "text": words(tape.chance, 12)}])


@contextmanager
def _request(tape: Tape, child: str | None = None, *, failed: bool = False) -> Iterator[None]:
    """One model request: start, the time to the first sign, what comes of it, end with tokens."""
    start = tape.seen("span.model_request_start", child=child)
    if not failed:
        tape.wait(_around(tape, 1.1))
        tape.seen("agent.thinking", child=child)
        _first(tape)
    yield
    tape.wait(_around(tape, 4.0))
    tokens = Tokens() if failed else _tokens(tape)
    tape.spent(tokens)
    tape.seen(
        "span.model_request_end", child=child, model=tape.model, is_error=failed,
        model_request_start_id=start, model_usage=tokens.span(),
    )  # fmt: skip


def _tokens(tape: Tape) -> Tokens:
    """The context grows with the log; most of it is read from the cache, sometimes it has gone cold."""
    size, chance = 2_100 + 180 * len(tape.lines), tape.chance
    output = int(chance.lognormvariate(5.5, 0.8))
    if chance.random() < 0.12:
        return Tokens(fresh=chance.randrange(3, 900), output=output, cache_write=size)
    return Tokens(fresh=chance.randrange(3, 900), output=output, cache_read=size)


def _say(tape: Tape, count: int, child: str | None = None) -> None:
    text = words(tape.chance, count)
    tape.wait(count * 0.02)
    tape.seen("agent.message", child=child, content=[{"type": "text", "text": text}])
    _first(tape)
    if tape.turn and not child:
        tape.turn.reply = text


def _first(tape: Tape) -> None:
    if tape.turn and tape.turn.first_token_at is None:
        tape.turn.first_token_at = tape.turn.first_output_at = tape.now


def _call(tape: Tape, child: str | None = None) -> tuple[str, str, float, float]:
    """A call of a tool: the type and `…_use_id` of its result, seconds it takes, share that fails."""
    _count_call(tape)
    if tape.chance.random() < 0.15:
        server, name, seconds, fails = tape.chance.choice(MCP)
        query = {"query": words(tape.chance, 5)}
        ident = tape.seen(
            "agent.mcp_tool_use", child=child, mcp_server_name=server, name=name, input=query
        )
        return "agent.mcp_tool_result", ident, seconds, fails
    name, seconds, fails = tape.chance.choice(BUILT_IN)
    ident = tape.seen(
        "agent.tool_use", child=child, name=name, input={"query": words(tape.chance, 5)},
        evaluated_permission="allow", evaluation={"type": "always_allow"},
    )  # fmt: skip
    return "agent.tool_result", ident, seconds, fails


def _result(
    tape: Tape, kind: str, call: str, seconds: float, fails: float, child: str | None = None
) -> None:
    tape.wait(_around(tape, seconds))
    text = lines(tape.chance, tape.chance.choice((1, 3, 8, 20)))
    answered: dict[str, Any] = {
        "mcp_tool_use_id" if "mcp" in kind else "tool_use_id": call,
        "content": [{"type": "text", "text": text}],
        "is_error": tape.chance.random() < fails,
    }
    tape.seen(kind, child=child, **answered)


def _count_call(tape: Tape) -> None:
    if tape.turn:
        tape.turn.tool_calls += 1


def _around(tape: Tape, seconds: float) -> float:
    """Mostly about so long, sometimes much longer."""
    return seconds * tape.chance.lognormvariate(0, 0.6)
