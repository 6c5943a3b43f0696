"""Record the golden logs of a version: `python -m tests.golden.record v0.3`.

Histories go through the real core; every event becomes a line as it would stand on `turnstile.events.v1`, and the
state after the last one is kept beside it. Recorded once, never changed: a file that exists is left alone, because
what was written by an old version must fold for ever. A log that the version before wrote alike is not kept again.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import msgspec

from shared.session import Event, fold
from shared.session.inputs import Input, TurnDropped, TurnParked
from shared.session.policy import DEFAULT
from shared.session.state import encode
from tests.builders import (
    TRACEPARENT,
    USER,
    Wire,
    answering,
    bound,
    elapsed,
    failed,
    filed,
    opening,
    seen,
    turn,
    whose,
)
from tests.unit.session.histories import LATER, NAMED
from tests.unit.session.specification import RESTING, WEARING, history

SESSIONS = Path(__file__).parent / "sessions"
CHOSEN = (
    "completed",
    "refused",
    "budget",
    "retried",
    "interrupted",
    "busy",
    "closed_while_waiting",
    "erased_while_running",
    "rotated",
    "confirmed",
    "asked_twice",
    "unbound_failed",
    "asked_in_vain",
    "stalled",
    "coalesced",
)


def recorded() -> dict[str, tuple[Input, ...]]:
    """The histories that are kept, by name."""
    return {name: NAMED[name] for name in CHOSEN} | {
        "whole_life": _whole_life(),
        "with_child": _with_child(),
        "parked": _parked(),
        "dormant": _dormant(),
        "gone_on": _gone_on(),
        "background": _ended_at_once("background"),
        "worn": (*_ended_at_once("interactive"), turn("t2", second=60), bound("sesn_2", 60)),
    }


POLICIES = {**dict.fromkeys(("dormant", "gone_on", "background"), RESTING), "worn": WEARING}


def log_of(name: str) -> tuple[Event, ...]:
    """The events of a history that is kept, as today's core writes them."""
    return history(*recorded()[name], policy=POLICIES.get(name, DEFAULT))


def _dormant() -> tuple[Input, ...]:
    """No turn comes for an hour and a quarter."""
    reply = seen(*Wire().reply())
    return (opening(), turn("t1"), bound(), reply, elapsed(1000), elapsed(5000))


def _gone_on() -> tuple[Input, ...]:
    """And then one does."""
    reply = seen(*Wire("two", second=9000).reply())
    return (*_dormant(), turn("t2", second=9000), bound("sesn_2", 9000), reply)


def _ended_at_once(mode: str) -> tuple[Input, ...]:
    return (opening(mode=mode), turn("t1"), bound(), seen(*Wire().reply()))


def _parked() -> tuple[Input, ...]:
    """Three turns that are dead letters: one is asked again and goes where it would have gone, one is dropped, and
    one keeps its place."""
    return (
        opening(),
        _parking("t1", 1),
        turn("t2", second=2),
        turn("t1", second=3),
        bound(second=4),
        seen(*Wire("one").reply()),
        seen(*Wire("two", second=60).reply()),
        _parking("t3", 120),
        turn("t4", second=121),
        filed(TurnDropped(**whose(122), turn_id="t3"), "dropped:1/2"),
        _parking("t5", 123),
    )


def _parking(turn_id: str, second: float) -> Input:
    request = TurnParked(**whose(second), turn_id=turn_id, user_id=USER, reason="invalid_field")
    return filed(request, f"parked:{turn_id}")


def _with_child() -> tuple[Input, ...]:
    """A child thread that is still known at the end and has said nothing yet."""
    wire = Wire()
    born = wire.event("session.thread_created", session_thread_id="sthr_1")
    said = (wire.prompt(), born, wire.message("well"), wire.idle())
    return (opening(), turn("t1"), bound(), seen(*said))


def _whole_life() -> tuple[Input, ...]:
    """Everything once: two provider sessions, child threads, a custom tool, retries, a queue, the archive."""
    one, two = Wire("one"), Wire("two", second=LATER)
    call = two.custom_tool_use()
    child = one.event("session.thread_created", session_thread_id="sthr_1")
    said = (one.prompt(), child, one.message("aside", thread="sthr_1"), one.terminated())
    return (
        opening(title="Trip", metadata={"team": "north"}, budget_usd=5.0, mode="background"),
        turn("t1", "где я? 🧭", traceparent=TRACEPARENT),
        failed(reason="overloaded_error", second=1, chance=0.5),
        elapsed(60),
        bound("sesn_1", 61),
        turn("t2", [{"type": "text", "text": "and then?"}], second=62),
        seen(*said, chance=0.25),
        elapsed(LATER),
        bound("sesn_2", LATER),
        seen(two.prompt(), call, two.cost(1), two.idle("requires_action", call.id)),
        answering(call.id, LATER + 30),
        seen(two.answered(call.id), two.running(), two.message("here", "there"), two.idle()),
        seen(*two.reply("and then?", "home")),
    )


def newest(name: str) -> Path | None:
    """The log of that name that the newest version wrote otherwise than the one before."""
    return max(SESSIONS.glob(f"v*/{name}.jsonl"), default=None)


def write(folder: Path, name: str, events: tuple[Event, ...]) -> None:
    """One log and the state it folds to, unless it is there already."""
    log, last = folder / f"{name}.jsonl", newest(name)
    lines = b"".join(msgspec.json.encode(event) + b"\n" for event in events)
    if not log.exists() and (last is None or last.read_bytes() != lines):
        log.write_bytes(lines)
        log.with_suffix(".state.json").write_bytes(encode(fold(events)) + b"\n")


def seal() -> None:
    """Note the digest of every log that has none yet, as sha256sum does. A state may come to tell more of a log;
    the log itself is for ever."""
    sums = SESSIONS / "SHA256SUMS"
    lines = sums.read_text().splitlines() if sums.exists() else []
    known = {line.split("  ")[1] for line in lines}
    for path in sorted(SESSIONS.glob("v*/*.jsonl")):
        name = str(path.relative_to(SESSIONS))
        if name not in known:
            lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}")
    sums.write_text("\n".join(lines) + "\n")


def main(version: str) -> None:
    folder = SESSIONS / version
    folder.mkdir(parents=True, exist_ok=True)
    for name in recorded():
        write(folder, name, log_of(name))
    seal()


if __name__ == "__main__":
    main(sys.argv[1])
