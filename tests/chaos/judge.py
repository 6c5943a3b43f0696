"""Judges the promises for a session: compares what was accepted, what the provider saw, and what is archived."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import pairwise

import msgspec

from infra.simulator import reply_to
from services.agent_worker.provider.front import HEADING, LOST
from shared.moment import parse
from shared.session.caps import CAP_REACHED
from tests.chaos.evidence import Evidence, Finding, Made, ProviderSession, Row, processed_at
from tests.chaos.follower import ENDS
from tests.chaos.moves import COMPLETED, REFUSED

KINDS = (
    *("lost", "doubled", "out of order", "missing", "repeated", "gaps", "wrong", "sums"),
    *("context", "caps", "money", "leaked"),
)
_REFUSAL = re.compile(r"the cap of \$([0-9.]+) (.*) is reached: \$([0-9.]+) spent, ")


def judge(found: Evidence) -> list[Finding]:
    """All that is wrong with one session; empty when all is well."""
    return [
        Finding(kind, found.session_id, detail) for kind, look in _LOOKS for detail in look(found)
    ]


def _lost(found: Evidence) -> Iterator[str]:
    """Accepted, and no end that this turn may have; or completed without its message."""
    ends = _ends(found.rows)
    sent = Counter(_sent(found))
    refused = _refused_by_cap(found.rows)
    for said in found.accepted:
        got = ends.get(said.turn_id, [])
        if not got:
            yield f"{said.turn_id} never ended"
        elif not set(got) <= said.ends and said.turn_id not in refused:
            yield f"{said.turn_id} ended with {got[0]}"
        elif got[0] == COMPLETED and not sent[said.turn_id]:
            yield f"{said.turn_id} completed, and the provider never had it"


def _doubled(found: Evidence) -> Iterator[str]:
    for turn_id, times in Counter(_sent(found)).items():
        if times > 1:
            yield f"{turn_id} was sent {times} times"
    for turn_id, ends in _ends(found.rows).items():
        if len(ends) > 1:
            yield f"{turn_id} ended {len(ends)} times: {', '.join(ends)}"


def _out_of_order(found: Evidence) -> Iterator[str]:
    asked = [said.turn_id for said in found.accepted]
    started = [row.turn_id for row in found.rows if row.type == "turn.started"]
    for what, got in (("sent", _sent(found)), ("started", started)):
        once = list(dict.fromkeys(got))
        if once != [turn_id for turn_id in asked if turn_id in once]:
            yield f"turns were {what} in another order than accepted: {_first_swap(once, asked)}"
    theirs = [row for row in found.rows if row.provider_event_id]
    listed = defaultdict(list)
    for session in found.at_provider:
        for event in session.events:
            listed[event.thread].append(event)
    for thread, events in listed.items():
        yield from _misplaced([row for row in theirs if row.thread_id == thread], events)


def _misplaced(rows: Sequence[Row], listed: Sequence[Made]) -> Iterator[str]:
    """The provider's own order, late events excepted: they count, their place does not."""
    places = {event.id: place for place, event in enumerate(listed) if not event.late}
    got = [row for row in rows if row.provider_event_id in places]
    for one, two in pairwise(got):
        ours = places[one.provider_event_id], places[two.provider_event_id]
        if ours[0] > ours[1]:
            yield (
                f"seq {one.seq} {one.type} before seq {two.seq} {two.type}, but the provider lists them "
                f"as {ours[0]} and {ours[1]} of thread {listed[0].thread or 'primary'}"
            )


def _missing(found: Evidence) -> Iterator[str]:
    have, left = {row.provider_event_id for row in found.rows}, _left(found.rows)
    for session in found.at_provider:
        for event in session.events:
            if event.id not in have and not _came_too_late(event, left.get(session.id)):
                yield f"{event.type} {event.id} of {session.id}"
    last = found.rows[-1].seq if found.rows else 0
    if last < found.published.last_seq:
        yield f"the topic goes to seq {found.published.last_seq}, the archive to {last}"


class _Rotated(msgspec.Struct):
    provider_session_id: str
    reason: str


def _left(rows: Iterable[Row]) -> dict[str, str]:
    """Provider sessions that were at rest, retired, and left for a turn; and when."""
    found = {}
    for row in rows:
        if row.type == "session.rotated":
            told = msgspec.json.decode(row.data, type=_Rotated)
            if told.reason in ("done", "idle", "length"):
                found[told.provider_session_id] = row.at
    return found


# How long an event may have been on its way to a worker of a machine under load.
_UNDER_WAY = timedelta(seconds=1)


def _came_too_late(event: Made, left_at: str | None) -> bool:
    """After the idle, and not heard yet when a turn left the retired session: nobody promises to record it."""
    if not event.late or not left_at:
        return False
    return parse(processed_at(event)) > parse(left_at) - _UNDER_WAY


def _repeated(found: Evidence) -> Iterator[str]:
    for what, values in (
        ("seq", [str(row.seq) for row in found.rows]),
        ("provider event", [r.provider_event_id for r in found.rows if r.provider_event_id]),
    ):
        for value, times in Counter(values).items():
            if times > 1:
                yield f"{what} {value} shows {times} times"
    for seq in found.published.two_bodies:
        yield f"seq {seq} was published with two bodies"


def _gaps(found: Evidence) -> Iterator[str]:
    seqs = sorted({row.seq for row in found.rows})
    if seqs != list(range(1, len(seqs) + 1)):
        lacking = sorted(set(range(1, seqs[-1] + 1)) - set(seqs))
        yield f"{len(lacking)} seqs are not there, the first is {lacking[0]}"
    yield from (f"the client's stream: {words}" for words in found.heard_wrong)


def _wrong(found: Evidence) -> Iterator[str]:
    """Events that nobody made or that were changed; replies that belong to another message."""
    made = defaultdict(set)
    for session in found.at_provider:
        for event in session.events:
            made[event.id].add(event.raw)
    unlisted = {id for session in found.at_provider for id in session.unlisted}
    for row in found.rows:
        ident = row.provider_event_id
        if ident and ident not in made and ident not in unlisted:
            yield f"seq {row.seq} {row.type}: the provider never made {ident}"
        elif ident in made and row.data.encode() not in made[ident]:
            yield f"seq {row.seq} {row.type} {ident} is not as the provider made it"
    yield from _wrong_replies(found)


def _wrong_replies(found: Evidence) -> Iterator[str]:
    replies = _replies(found.rows)
    texts = {said.text for said in found.accepted}
    completed = {turn for turn, ends in _ends(found.rows).items() if ends[0] == COMPLETED}
    text_of = {said.turn_id: said.text for said in found.accepted}
    joined = _joined(found.rows)
    answered = {lead: rider for rider, lead in joined.items()}  # of several, the last
    for turn_id in text_of:
        lead = joined.get(turn_id, turn_id)
        ours = text_of[answered.get(lead, lead)]
        wanted = [
            reply_to("\n".join(message))
            for session in found.at_provider
            for message in session.messages
            if [text for text in message if text in texts] == [ours]
        ]
        if turn_id in completed and wanted and replies.get(lead, "") not in wanted:
            yield f"{turn_id} was completed with the reply {replies.get(lead)!r}"


def _context(found: Evidence) -> Iterator[str]:
    """A provider session that follows another begins with what was said there; a first one, or a later message,
    with nothing but the user's own words."""
    texts = {said.text for said in found.accepted}
    before: ProviderSession | None = None
    for session in found.at_provider:
        for place, message in enumerate(session.messages):
            front = [text for text in message if text not in texts]
            if (before is None or place) and front:
                yield f"{session.id}: message {place + 1} has something in front: {front[0][:60]!r}"
            elif before is not None and not place and not _carries(front, before, texts):
                yield f"{session.id} does not begin with what was said in {before.id}: {front!r:.200}"
        before = session if session.messages else before


def _carries(front: Sequence[str], before: ProviderSession, texts: Container[str]) -> bool:
    if before.deleted and list(front) == [LOST]:
        return True
    own = [text for text in before.messages[-1] if text in texts]
    return len(front) == 1 and front[0].startswith(HEADING) and all(t in front[0] for t in own)


def _capped(found: Evidence) -> Iterator[str]:
    """Turns that a cap refused: only the small one may, only once it is spent, and nothing of them is sent."""
    sent = Counter(_sent(found))
    for turn_id, words in _refused_by_cap(found.rows).items():
        told = _REFUSAL.search(words)
        if sent[turn_id]:
            yield f"{turn_id} was refused by a cap, and the provider had it"
        if told is None or not found.capped or told[2] != found.capped:
            yield f"{turn_id} was refused though its cap is {found.capped!r}: {words}"
        elif float(told[3]) < float(told[1]):
            yield f"{turn_id} was refused though something is left: {words}"


class _Error(msgspec.Struct, frozen=True):
    type: str = ""
    message: str = ""


class _Refused(msgspec.Struct):
    error: _Error = _Error()


def _refused_by_cap(rows: Iterable[Row]) -> dict[str, str]:
    """Turn id to the words of the refusal."""
    errors = {
        row.turn_id: msgspec.json.decode(row.data, type=_Refused).error
        for row in rows
        if row.type == REFUSED
    }
    return {turn: error.message for turn, error in errors.items() if error.type == CAP_REACHED}


class _Block(msgspec.Struct):
    type: str = ""
    text: str = ""


class _Message(msgspec.Struct):
    content: list[_Block] = []


def steering(found: Evidence) -> tuple[int, int]:
    """How many turns joined the one that ran, and how many of those that were to came too late, or waited."""
    joined = _joined(found.rows).keys()
    asked = [said.turn_id for said in found.accepted if said.on_busy == "steer"]
    both = len([turn_id for turn_id in asked if turn_id in joined])
    return both, len(asked) - both


class _Started(msgspec.Struct):
    joined: str | None = None


def _joined(rows: Iterable[Row]) -> dict[str, str]:
    """Turn id to the turn that it joined, coalesced or steering, and that it ended with: the agent answers the last
    message it was told. One that began once more, by itself, joined none."""
    started = {
        row.turn_id: msgspec.json.decode(row.data, type=_Started).joined
        for row in rows
        if row.type == "turn.started"
    }
    return {turn_id: lead for turn_id, lead in started.items() if lead is not None}


def _replies(rows: Iterable[Row]) -> dict[str, str]:
    """Turn id to the text of its last message on the primary thread."""
    found = {}
    for row in rows:
        if row.type == "agent.message" and not row.thread_id:
            blocks = msgspec.json.decode(row.data, type=_Message).content
            found[row.turn_id] = "\n".join(block.text for block in blocks if block.type == "text")
    return found


def _ends(rows: Iterable[Row]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row.type in ENDS:
            found[row.turn_id].append(row.type)
    return found


def _sent(found: Evidence) -> list[str]:
    """The turn of each message that the provider took, in order of arrival."""
    turn_of = {said.text: said.turn_id for said in found.accepted}
    return [
        turn_of[text]
        for session in found.at_provider
        for message in session.messages
        for text in message
        if text in turn_of
    ]


def _first_swap(got: Sequence[str], wanted: Sequence[str]) -> str:
    places = {value: place for place, value in enumerate(wanted)}
    return next(
        (
            f"{one} before {two}"
            for one, two in pairwise(got)
            if places.get(one, -1) > places.get(two, -1)
        ),
        f"{got[:3]} for {wanted[:3]}",
    )


_LOOKS: tuple[tuple[str, Callable[[Evidence], Iterator[str]]], ...] = (
    ("lost", _lost),
    ("doubled", _doubled),
    ("out of order", _out_of_order),
    ("missing", _missing),
    ("repeated", _repeated),
    ("gaps", _gaps),
    ("wrong", _wrong),
    ("context", _context),
    ("caps", _capped),
)
