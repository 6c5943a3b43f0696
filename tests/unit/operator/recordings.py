"""Recorded sessions, made by the real core out of the histories that the core's own tests play."""

from __future__ import annotations

from shared.session import Event
from shared.session.inputs import Input
from tests.builders import Wire, bound, confirming, opening, seen, turn
from tests.unit.session.specification import history


def conversation(*, reply: str = "well", answer: str = "allow", tool: str = "ls") -> list[Event]:
    """Two turns: a question that is answered, and one with a tool that a person is asked about."""
    one, two = Wire("one"), Wire("two", second=100)
    call = two.event(
        "agent.tool_use", name="bash", input={"command": tool}, evaluated_permission="ask"
    )
    verdict = two.event("user.tool_confirmation", tool_use_id=call.id, result=answer)
    done = two.event("agent.tool_result", tool_use_id=call.id, is_error=answer == "deny")
    inputs: tuple[Input, ...] = (
        opening(),
        turn("t1", "hello"),
        bound(),
        seen(*one.reply("hello", reply)),
        turn("t2", "list it", second=100),
        bound(second=100),
        seen(two.prompt("list it"), call, two.idle("requires_action", call.id)),
        confirming(call.id, 120),
        seen(verdict, two.running(), done, two.message("two files"), two.cost(5), two.idle()),
    )
    return list(history(*inputs))
