"""Plays and troubles by chance: what a conversation may be, and what may befall the workers that serve it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial

import msgspec
from hypothesis import strategies as st
from msgspec import UNSET

from services.agent_worker.ports import ProviderFailure
from shared.errors import Transient
from shared.session.caps import Cap
from shared.session.events import Event, TurnRequiresAction
from shared.session.outcome import Outcome, TextRubric
from tests.builders import TENANT, answering, confirming, interrupting, opening, raising, turn
from tests.fakes.provider import past_of
from tests.unit.agent_worker import virtual_time
from tests.unit.agent_worker.effects import Halt, Tempo
from tests.unit.agent_worker.outcome import Outcome as Came
from tests.unit.agent_worker.outcome import outcome
from tests.unit.agent_worker.outside import Outside
from tests.unit.agent_worker.runs import relay
from tests.unit.agent_worker.worker import EVEN, SLOW_STORE, Worker, know_tasks

SCRIPTS = ("plain", "tools", "threads", "refusal", "own_tool")
# A turn that asks for an outcome, which is worked towards as any message is.
OUTCOME = "outcome"
ASKING = ("confirm", "denied", "confirm_two", "custom_tool", "answered_twice")
# Turns that are held until something else happens to them, and two turns in one message.
MEETING = ("hold", "overtaken", "rejecting", "coalesced")
# Whether one that steers a held turn joins it, or comes too late, is up to who is faster: laws hold either way.
STEERING = "steering"
# What befalls the work on a message, and whether the message goes out again.
FATED = {
    "exhausted": True,
    "retries_exhausted": True,
    "terminal": True,
    "budget": False,
    "unconnected": True,
}
OF_PROVIDER = ("open", "send", "answer", "interrupt")
OF_STORE = ("file", "claim", "write", "release", "extend", "let_go")
OF_FEED = ("watch", "next")
ENDS = ("turn.completed", "turn.interrupted", "turn.refused", "turn.failed")


@dataclass(frozen=True)
class Conversation:
    """The turns' scripts. `gap`: seconds between one request and the next; None: each turn waits for the end of
    the one before."""

    scripts: tuple[str, ...]
    gap: float | None

    @property
    def capped(self) -> bool:
        """Whether a cap counts for them, which is wide enough."""
        return len(self.scripts) == 2


@dataclass(frozen=True)
class Troubles:
    """What befalls: where the first workers die, which effects of each worker fail before they happen (names may
    come twice), how much longer an effect takes, how many sends land without an answer that tells, how many batches
    of a feed come with the one before them once more."""

    halts: tuple[Halt, ...] = ()
    fails: tuple[str, ...] = ()
    slow: tuple[tuple[str, float], ...] = ()
    unanswered: int = 0
    repeats: int = 0
    tempo: Tempo = EVEN


def _conversation(scripts: list[str], gap: float | None) -> Conversation:
    """Neighbours that may be coalesced would go out together or not, by who is faster: there are none, but for
    turns that are asked for one by one. So are those that are interrupted by another turn, which waits behind
    whichever was asked for by then."""
    if "overtaken" in scripts:
        gap = None
    told: list[str] = []
    for script in scripts:
        joins = gap is not None and script == "coalesced" and "coalesced" in told[-1:]
        told.append("plain" if joins else script)
    return Conversation(tuple(told), gap)


steering = st.builds(
    Conversation,
    scripts=st.lists(
        st.sampled_from((STEERING, STEERING, "plain", "confirm")), min_size=1, max_size=3
    )
    .filter(lambda scripts: STEERING in scripts)
    .map(tuple),
    gap=st.none(),
)
conversations = st.builds(
    _conversation,
    scripts=st.lists(
        st.sampled_from((*SCRIPTS, OUTCOME, *ASKING, *MEETING, *FATED)), min_size=1, max_size=3
    ),
    gap=st.none() | st.sampled_from([n / 50 for n in range(25)]),
)
troubles = st.builds(
    Troubles,
    halts=st.lists(
        st.builds(Halt, k=st.integers(1, 60), when=st.sampled_from(("before", "after"))), max_size=3
    ).map(tuple),
    fails=st.lists(st.sampled_from((*OF_PROVIDER, *OF_STORE, *OF_FEED)), max_size=4).map(tuple),
    slow=st.lists(
        st.tuples(
            st.sampled_from(("open", "send", "say", "write", "watch", "next")),
            st.sampled_from((0.1, 0.7)),
        ),
        max_size=2,
        unique_by=lambda one: one[0],
    ).map(tuple),
    unanswered=st.integers(0, 2),
    repeats=st.integers(0, 4),
    tempo=st.sampled_from((EVEN, SLOW_STORE)),
)


def played(conversation: Conversation, troubles: Troubles) -> Came:
    """What comes of it. Raises AssertionError when a law that holds for every run was broken."""

    async def main() -> Came:
        know_tasks()
        outside = Outside()
        lost = ProviderFailure("timeout", "no answer, and no list")
        outside.provider.lost_answers.extend([lost] * troubles.unanswered)
        _foretell(outside, conversation)
        client = asyncio.create_task(_to_the_end(outside, conversation))
        halts = enumerate((*troubles.halts, None))
        await relay(client, [partial(_worker, outside, n, halt, troubles) for n, halt in halts])
        return _timeless(outcome(outside), conversation)

    return virtual_time.run(main())


def _timeless(found: Came, conversation: Conversation) -> Came:
    """Whether the session rested between two turns depends on who is faster when they are not asked one by one."""
    if conversation.gap is None:
        return found
    return replace(found, facts=[fact for fact in found.facts if fact[0] != "session.idled"])


def _worker(outside: Outside, n: int, halt: Halt | None, troubles: Troubles) -> Worker:
    worker = Worker(outside, f"worker-{n}", halt=halt, tempo=troubles.tempo)
    worker.effects.slow.update(troubles.slow)
    worker.effects.repeats = troubles.repeats
    for name in troubles.fails:
        refused = ProviderFailure("overloaded_error", "529: busy")
        away = Transient("database_away", "no connection")
        error: Exception = refused if name in OF_PROVIDER else away
        worker.effects.fails.setdefault(name, []).append(error)
    return worker


def _foretell(outside: Outside, conversation: Conversation) -> None:
    """Set what befalls each message, and what the provider should have got in the end."""
    sent, session = list[str](), 1
    for n, script in enumerate(conversation.scripts, start=1):
        again = FATED.get(script, False)
        outside.provider.fates.extend([script if script in FATED else "", *([""] * again)])
        sent.append(_text(n, script))
        if script == "terminal":
            sent.append(past_of(f"sesn_{session}"))
            session += 1
        if again:
            sent.append(_text(n, script))
        if script in ("overtaken", "coalesced", STEERING):
            sent.append(f"beside {n}")
        if script == "overtaken":
            outside.provider.fates.append("")
    outside.sent, outside.rotations = sent, session - 1


async def _to_the_end(outside: Outside, conversation: Conversation) -> None:
    scripts, gap = conversation.scripts, conversation.gap
    if conversation.capped:
        cap = Cap(tenant_id=TENANT, scope="tenant", who="", period="all", limit=10**9)
        outside.caps.caps = (cap,)
    if "budget" in scripts:
        outside.ask(opening(budget_usd=1.0))
    asking = asyncio.create_task(_ask_all(outside, scripts, gap)) if gap is not None else None
    for n, script in enumerate(scripts, start=1):
        if asking is None:
            _ask(outside, n, script)
        await _see_through(outside, n, script)
    await outside.until(lambda: outside.settled, "the end")


async def _ask_all(outside: Outside, scripts: tuple[str, ...], gap: float) -> None:
    for n, script in enumerate(scripts, start=1):
        _ask(outside, n, script)
        await asyncio.sleep(gap)


def _text(n: int, script: str) -> str:
    held = " on" if script in ("hold", "overtaken", "rejecting", STEERING) else ""
    played = {"denied": "confirm", "answered_twice": "custom_tool", OUTCOME: "plain"}
    word = played.get(script, script)
    return f"number {n} {'hold' if held else script}{held} [[script: {word}]]"


def _ask(outside: Outside, n: int, script: str) -> None:
    if script == "coalesced":
        texts = {f"t{n}": _text(n, script), f"t{n}b": f"beside {n}"}
        outside.ask(*(turn(id, text, float(n), on_busy="coalesce") for id, text in texts.items()))
    elif script == OUTCOME:
        wanted = Outcome(description=_text(n, script), rubric=TextRubric(content="one page"))
        outside.ask(turn(f"t{n}", UNSET, float(n), outcome=wanted))
    else:
        outside.ask(turn(f"t{n}", _text(n, script), float(n)))


async def _see_through(outside: Outside, n: int, script: str) -> None:
    """What a client does during the `n`-th turn, until it has ended."""
    if script in (*ASKING, "unconnected"):
        await _answer(outside, n, script)
    elif script == "budget":
        await _said_of(outside, f"t{n}", "turn.requires_action")
        outside.ask(raising(100.0 * n, 10.0 + n))
    elif script in (*MEETING, STEERING) and script != "coalesced":
        await _meet(outside, n, script)
    beside = ("overtaken", "coalesced", "rejecting", STEERING)
    for id in (f"t{n}", f"t{n}b") if script in beside else (f"t{n}",):
        await _said_of(outside, id, *ENDS)


async def _answer(outside: Outside, n: int, script: str) -> None:
    asked = await _said_of(outside, f"t{n}", "turn.requires_action")
    found = msgspec.json.decode(asked.data, type=TurnRequiresAction).pending_actions
    ids = [action.tool_use_id for action in found]
    if script == "custom_tool":
        outside.ask(answering(ids[0], 10.0 + n))
    elif script == "unconnected":
        outside.ask(confirming(ids[0], 10.0 + n))
    elif script == "answered_twice":
        outside.ask(answering(ids[0], 10.0 + n), answering(ids[0], 40.0 + n, "43"))
    else:
        for call in reversed(ids):
            outside.ask(confirming(call, 10.0 + n, "deny" if script == "denied" else "allow"))
            await _said_of(outside, f"t{n}", "user.tool_confirmation")


async def _meet(outside: Outside, n: int, script: str) -> None:
    """The turn is held: interrupt it, overtake it, steer it, or be rejected by it."""
    await _said_of(outside, f"t{n}", "user.message")
    if script == "hold":
        outside.ask(interrupting(20.0 + n))
    elif script == "overtaken":
        outside.ask(turn(f"t{n}b", f"beside {n}", 20.0 + n, on_busy="interrupt"))
    elif script == STEERING:
        outside.ask(turn(f"t{n}b", f"beside {n}", 20.0 + n, on_busy="steer"))
        capped = bool(outside.caps.caps)
        await _said_of(outside, f"t{n}b", "turn.accepted" if capped else "turn.started")
        list(outside.provider.sessions.values())[-1].release()
    else:
        outside.ask(turn(f"t{n}b", f"beside {n}", 20.0 + n, on_busy="reject"))
        await _said_of(outside, f"t{n}b", "turn.refused")
        list(outside.provider.sessions.values())[-1].release()


async def _said_of(outside: Outside, turn_id: str, *kinds: str) -> Event:
    """The first event of these types that is the turn's, once it is on the log."""

    def found() -> list[Event]:
        events = outside.publisher.events
        return [event for event in events if event.turn_id == turn_id and event.type in kinds]

    await outside.until(lambda: bool(found()), f"{' or '.join(kinds)} of {turn_id}")
    return found()[0]
