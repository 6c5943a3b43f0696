"""Many pasts: named ones for every road a turn can take, and random ones."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from shared.session import Input
from tests.builders import (
    Wire,
    answering,
    archiving,
    bound,
    budget_set,
    confirming,
    elapsed,
    erasing,
    failed,
    interrupting,
    opening,
    raising,
    seen,
    silent,
    turn,
)

RUNNING: tuple[Input, ...] = (turn("t1"), bound())
LATER = 10_000.0
OVERDUE: tuple[Input, ...] = (turn("t1", deadline_seconds=5), bound(), elapsed(5))
GATHERED: tuple[Input, ...] = tuple(
    turn(f"c{n}", f"part {n}", on_busy="coalesce", second=n / 100) for n in range(3)
)
W = Wire()
STEERED: tuple[Input, ...] = (
    *RUNNING,
    seen(W.prompt(), W.running()),
    turn("s2", "left", 3, on_busy="steer"),
)


def _asking_unprompted() -> Input:
    wire = Wire()
    call = wire.tool_use("ask")
    return seen(call, wire.idle("requires_action", call.id))


def _asked(*more: str) -> tuple[Input, ...]:
    """A turn that waits for a confirmation; then the provider says each of `more`."""
    wire = Wire()
    prompt, call = wire.prompt(), wire.tool_use("ask")
    first = seen(prompt, call, wire.idle("requires_action", call.id))
    says = {
        "running": lambda: seen(wire.confirmed(call.id), wire.running()),
        "again": lambda: seen(wire.custom_tool_use(), wire.idle("requires_action")),
        "interrupted": lambda: seen(wire.interrupted(), wire.idle()),
        "exhausted": lambda: seen(wire.error("exhausted"), wire.idle()),
    }
    return (*RUNNING, first, *(says[w]() if w in says else seen(wire.idle(w)) for w in more))


def _ended(reason: str) -> tuple[Input, ...]:
    wire = Wire()
    return (*RUNNING, seen(wire.prompt(), wire.running(), wire.message("well"), wire.idle(reason)))


_wire = Wire()
UNCONNECTED: tuple[Input, ...] = (
    *RUNNING,
    seen(_wire.prompt(), _wire.unconnected(), _wire.idle("retries_exhausted")),
)
NAMED: dict[str, tuple[Input, ...]] = {
    "completed": (opening(), *RUNNING, seen(*Wire().reply())),
    "refused": _ended("refusal"),
    "budget": _ended("budget_reached"),
    "budget_not_raised": (*_ended("budget_reached"), elapsed(20 * LATER)),
    "budget_raised": (
        opening(budget_usd=1.0),
        *_ended("budget_reached"),
        raising(2.0, 9),
        budget_set(2.0, "sevt_4", 9),
        seen(Wire("more", 10).running(), Wire("last", 12).idle()),
    ),
    "budget_used_up_before": (
        opening(budget_usd=0.004),
        turn("t1"),
        raising(1.0, 1),
        budget_set(1.0, "budget:t1", 2),
    ),
    "connected": (*UNCONNECTED, confirming("sevt_2", 9), seen(*Wire("more", 10).reply())),
    "connected_again": (
        *UNCONNECTED,
        confirming("sevt_2", 9),
        seen((v := Wire("more", 10)).prompt(), v.unconnected(), v.idle("retries_exhausted")),
        elapsed(LATER),
        bound("sesn_2", LATER),
    ),
    "connection_denied": (*UNCONNECTED, confirming("sevt_2", 9, "deny")),
    "never_connected": (*UNCONNECTED, elapsed(20 * LATER)),
    "retried": (*_ended("retries_exhausted"), elapsed(LATER)),
    "interrupted": (*RUNNING, seen((w := Wire()).prompt(), w.interrupted(), w.idle())),
    "busy": (*RUNNING, turn("t2", on_busy="reject")),
    "closed_while_waiting": (*RUNNING, turn("t2"), archiving(9)),
    "unbound_retried": (turn("t1"), failed(), elapsed(LATER), bound(second=LATER)),
    "unbound_interrupted": (turn("t1"), failed(chance=0.9), interrupting()),
    "unbound_failed": (turn("t1"), failed(final=True)),
    "failed": (*RUNNING, failed(final=True)),
    "rotated": (*RUNNING, failed(lost=True), elapsed(LATER), bound("sesn_2", LATER)),
    "confirmed": _asked("running", "end_turn"),
    "asked_twice": _asked("again"),
    "asked_then_completed": _asked("end_turn"),
    "asked_then_refused": _asked("refusal"),
    "asked_then_budget": _asked("budget_reached"),
    "asked_then_interrupted": _asked("interrupted"),
    "asked_then_exhausted": _asked("exhausted"),
    "asked_while_waiting": (*RUNNING, failed(), _asking_unprompted(), elapsed(LATER)),
    "asked_in_vain": (*_asked(), elapsed(20 * LATER)),
    "stalled": (*RUNNING, seen(Wire().prompt()), silent(900)),
    "stalled_twice": (*RUNNING, seen(Wire().prompt()), silent(900), silent(1800)),
    "overdue": (*OVERDUE, seen((d := Wire()).prompt(), d.interrupted(), d.idle())),
    "overdue_while_opening": (turn("t1", deadline_seconds=5), elapsed(5), bound(second=6)),
    "overdue_while_asked": (turn("t1", deadline_seconds=99), *_asked()[1:], elapsed(99)),
    "overdue_while_waiting": (*RUNNING, turn("t2", deadline_seconds=5), elapsed(5)),
    "coalesced": (*GATHERED, elapsed(1), bound(), seen(*Wire().reply())),
    "coalesced_behind": (*RUNNING, *GATHERED, seen(*Wire().reply())),
    "steered": (*STEERED, seen(W.prompt("left"), W.message("well"), W.idle())),
    "steered_too_late": (*STEERED, seen(W.idle(), W.prompt("left"), W.message("well"), W.idle())),
    "steered_into_an_exhausted_one": (*STEERED, seen(W.error("exhausted"), W.idle())),
    "steered_and_retried": (
        *STEERED,
        seen(W.prompt("left"), W.error("exhausted"), W.idle()),
        elapsed(LATER),
    ),
    "steered_and_rotated": (*STEERED, failed(lost=True), elapsed(LATER), bound("sesn_2", LATER)),
    "steered_and_archived": (*STEERED, archiving(9), seen(W.interrupted(), W.idle())),
    "gathering_interrupted": (*GATHERED, interrupting(0.2)),
    "erased_while_running": (*RUNNING, turn("t2"), erasing(9)),
}


def _said(wire: Wire) -> list[Callable[[], Input]]:
    return [
        lambda: seen(*wire.reply()),
        lambda: seen(wire.prompt(), wire.running(), wire.message("so"), chance=0.5),
        lambda: seen(wire.prompt("left")),
        lambda: seen(wire.prompt("left", processed=False), wire.idle("retries_exhausted")),
        lambda: seen(wire.idle()),
        lambda: seen(wire.tool_use("ask"), wire.idle("requires_action")),
        lambda: seen(wire.custom_tool_use(), wire.spent(3, 4), wire.idle("requires_action")),
        lambda: seen(wire.confirmed("sevt_5"), wire.running()),
        lambda: seen(wire.error("exhausted"), wire.idle("retries_exhausted"), chance=0.1),
        lambda: seen(wire.error("retrying"), wire.cost(7)),
        lambda: seen(wire.prompt(), wire.unconnected(), wire.idle("retries_exhausted")),
        lambda: seen(wire.unconnected("notion", kind="mcp_connection_failed_error")),
        lambda: seen(wire.interrupted(), wire.idle("refusal")),
        lambda: seen(wire.terminated()),
        lambda: seen(wire.event("session.thread_created", session_thread_id="sthr_1")),
        lambda: seen(wire.message("aside", thread="sthr_1"), wire.idle("budget_reached")),
        lambda: seen(wire.event("something.newer", surprise=[1, {"a": None}])),
    ]


def _asked_for(n: int, second: float) -> list[Callable[[], Input]]:
    return [
        lambda: opening(second),
        lambda: turn(f"q{n}", f"says {n}", second),
        lambda: turn(f"q{n}", [{"type": "text", "text": "…🎈"}], second, on_busy="interrupt"),
        lambda: turn(f"q{n}", "no", second, on_busy="reject"),
        lambda: turn(f"q{n}", "and", second, on_busy="coalesce"),
        lambda: turn(f"q{n}", "left", second, on_busy="steer"),
        lambda: turn(f"q{n}", "left", second, on_busy="steer", deadline_seconds=15),
        lambda: turn(f"q{n}", "soon", second, deadline_seconds=25),
        lambda: silent(second),
        lambda: interrupting(second),
        lambda: confirming("sevt_5", second),
        lambda: answering("sevt_9", second),
        lambda: bound(f"sesn_{n}", second),
        lambda: failed(f"q{n - 1}", second=second, chance=0.3, lost=n % 3 == 0),
        lambda: failed("t1", second=second, chance=0.3, final=n % 4 == 0),
        lambda: raising(n / 10 + 0.1, second),
        lambda: budget_set(n / 10 + 0.1, f"sevt_{n}", second),
        lambda: elapsed(second),
        lambda: elapsed(second + LATER),
        lambda: archiving(second),
        lambda: erasing(second),
    ]


@st.composite
def random_histories(draw: st.DrawFn) -> tuple[Input, ...]:
    """Up to forty inputs in any order, sensible or not; closing is rare so that most go on."""
    wire = Wire()
    inputs: list[Input] = list(draw(st.sampled_from([(), RUNNING])))
    for n in range(draw(st.integers(0, 40))):
        choices = [*_said(wire), *_asked_for(n, 10.0 * n)]
        open_end = len(choices) - (0 if draw(st.integers(0, 9)) == 0 else 2)
        inputs.append(choices[draw(st.integers(0, open_end - 1))]())
    return tuple(inputs)
