"""The patterns of sessions: turns by their shares, from `session.opened` on; copies are made of them.

A pattern is real events but for the names in it, which stand for others until a copy is made: TENANT, USER, TOKEN
(in every id of the session) and the days from DAY on, all of the length of what replaces them or free to grow.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random

from shared.session.events import (
    SessionClosed,
    SessionIdled,
    SessionOpened,
    SessionRotated,
    Turn,
    TurnAccepted,
    TurnError,
    TurnRetrying,
    TurnStarted,
)
from tests.synthetic import courses
from tests.synthetic.standing import Standing
from tests.synthetic.tape import Tape
from tests.synthetic.texts import words

TENANT, USER, TOKEN = "{tenant}", "{user}", "{token}"
DAY = datetime(1000, 1, 1, tzinfo=UTC)
MODELS = (
    "claude-sonnet-5",
    "claude-sonnet-5",
    "claude-sonnet-5",
    "claude-haiku-4-5",
    "claude-opus-5",
)
LONGEST_DAYS = 9
MOST_ATTEMPTS = 8
ENDS = {"end_turn": "completed", "refusal": "refused", "interrupted": "interrupted"}


@dataclass(frozen=True, slots=True)
class Pattern:
    """The lines of a session, and on which days after the first something happened."""

    lines: tuple[bytes, ...]
    days: tuple[int, ...]


def pattern(chance: Random) -> Pattern:
    """One session of one turn to some dozens, all in all within LONGEST_DAYS."""
    began = DAY + timedelta(seconds=_second_of_the_day(chance))
    tape = Tape((TENANT, f"ses_{TOKEN}", USER), TOKEN, began, chance, chance.choice(MODELS))
    mode = chance.choice(("interactive", "interactive", "background"))
    tape.own("session.opened", SessionOpened(user_id=USER, title=words(chance, 4), mode=mode))
    for number in range(1, min(40, int(chance.lognormvariate(0.9, 0.9)) + 1) + 1):
        if (tape.at - DAY).days >= LONGEST_DAYS - 1:
            break
        _turn(tape, number)
        tape.wait(chance.choice((20, 60, 200, 900)) * chance.lognormvariate(0, 0.7))
        if chance.random() < 0.03:
            tape.wait(20 * 3600)
    if chance.random() < 0.6:
        tape.own("session.archived", SessionClosed(reason="requested"))
        tape.seen("session.status_terminated")
    lines = tuple(tape.lines)
    text = b"".join(lines)
    found = [day for day in range(LONGEST_DAYS + 1) if day_text(day) in text]
    return Pattern(lines, tuple(found))


def day_text(number: int) -> bytes:
    """How the day so many days after the pattern's first one is written in it."""
    return (DAY + timedelta(days=number)).strftime("%Y-%m-%d").encode()


def _turn(tape: Tape, number: int) -> None:
    chance = tape.chance
    asked = words(chance, chance.choice((6, 12, 25, 80)))
    # Half of a trace id is the copy's own.
    trace = f"{chance.getrandbits(64):016x}{TOKEN}"
    tape.turn = turn = Standing(f"turn-{number}", USER, trace, tape.now)
    traceparent = f"00-{trace}-{chance.getrandbits(64) | 1:016x}-01"
    tape.own(
        "turn.accepted",
        TurnAccepted(**turn.fields(), content=asked, input_id=f"turn:turn-{number}", traceparent=traceparent),
    )  # fmt: skip
    tape.wait(0.02 * chance.lognormvariate(0, 1.2))
    _attempts(tape, turn, _course(chance))
    tape.turn = None
    tape.cost_usd = round(tape.cost_usd + turn.cost_usd, 2)
    totals = SessionIdled(last_turn_id=turn.turn_id, usage=tape.used, cost_usd=tape.cost_usd)
    tape.own("session.idled", totals)


def _attempts(tape: Tape, turn: Standing, course: courses.Course) -> None:
    """Attempt after attempt until the turn has ended."""
    while True:
        turn.attempts += 1
        turn.status = "running"
        turn.cents_before = tape.cents - round(turn.cost_usd * 100)
        turn.started_at = turn.started_at or tape.now
        _started(tape, turn)
        stop = course(tape)
        if stop in ENDS:
            tape.idle("end_turn" if stop == "interrupted" else stop)
            return _ended(tape, turn, stop)
        if stop == "lost":
            reason = "model_request_failed_error"
            rotated = SessionRotated(provider_session_id=tape.provider_session_id, reason=reason)
            tape.own("session.rotated", rotated)
            tape.new_provider_session()
        else:
            reason = "model_overloaded_error"
            tape.idle(stop)
        if turn.attempts == MOST_ATTEMPTS:
            return _ended(tape, turn, "failed")
        _retrying(tape, turn, reason)
        course = course if tape.chance.random() < 0.6 else courses.reply


def _started(tape: Tape, turn: Standing) -> None:
    session = tape.provider_session_id
    fields = {**turn.fields(), "provider_session_id": session, "agent": "agent_synthetic"}
    tape.own("turn.started", TurnStarted(**fields, model=tape.model))


def _retrying(tape: Tape, turn: Standing, reason: str) -> None:
    seconds = min(120.0, 0.5 * 2**turn.attempts)
    fields = {**turn.fields(), "reason": reason, "detail": "in words", "retry_at": tape.now}
    tape.own("turn.retrying", TurnRetrying(**fields))
    tape.wait(seconds)


def _ended(tape: Tape, turn: Standing, stop: str) -> None:
    status = ENDS.get(stop, "failed")
    turn.status, turn.ended_at = status, tape.now  # type: ignore[assignment]
    turn.stop_reason = None if stop in ("failed", "interrupted") else stop
    if status == "refused":
        turn.error = TurnError(type="refusal", message="the agent declined to answer")
    if status == "failed":
        turn.error = TurnError(type="model_overloaded_error", message="The model is overloaded.")
    if status in ("refused", "failed"):
        turn.reply = None
    tape.own(f"turn.{status}", Turn(**turn.fields()))


def _course(chance: Random) -> courses.Course:
    made, shares = zip(*courses.SHARES, strict=True)
    return chance.choices(made, weights=shares)[0]  # type: ignore[no-any-return]


def _second_of_the_day(chance: Random) -> float:
    """People work around two in the afternoon, machines always."""
    if chance.random() < 0.2:
        return chance.uniform(0, 86_000)
    return min(86_000.0, max(0.0, chance.gauss(14 * 3600, 3 * 3600)))
