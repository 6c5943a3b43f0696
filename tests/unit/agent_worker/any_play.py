"""Plays and troubles by chance: what a conversation may be, and what may befall the workers that serve it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial

import msgspec
from hypothesis import strategies as st

from services.agent_worker.ports import ProviderFailure
from shared.errors import Transient
from shared.session.events import Event, TurnRequiresAction
from tests.builders import answering, confirming, interrupting, turn
from tests.unit.agent_worker import virtual_time
from tests.unit.agent_worker.effects import Halt, Tempo
from tests.unit.agent_worker.outcome import Outcome, outcome
from tests.unit.agent_worker.outside import Outside
from tests.unit.agent_worker.runs import relay
from tests.unit.agent_worker.worker import EVEN, SLOW_STORE, Worker, know_tasks

SCRIPTS = ("plain", "tools", "threads", "refusal", "confirm", "custom_tool", "hold")
OF_PROVIDER = ("open", "send", "answer", "interrupt")
OF_STORE = ("file", "claim", "write", "release", "extend", "let_go")


@dataclass(frozen=True)
class Conversation:
    """The turns' scripts. `gap`: seconds between one request and the next; None: each turn waits for the end of
    the one before."""

    scripts: tuple[str, ...]
    gap: float | None


@dataclass(frozen=True)
class Troubles:
    """What befalls: where the first workers die, which effects of each worker fail before they happen (names may
    come twice), how much longer an effect takes, how many sends land without an answer that tells."""

    halts: tuple[Halt, ...] = ()
    fails: tuple[str, ...] = ()
    slow: tuple[tuple[str, float], ...] = ()
    unanswered: int = 0
    tempo: Tempo = EVEN


conversations = st.builds(
    Conversation,
    scripts=st.lists(st.sampled_from(SCRIPTS), min_size=1, max_size=3).map(tuple),
    gap=st.none() | st.sampled_from([n / 50 for n in range(25)]),
)
troubles = st.builds(
    Troubles,
    halts=st.lists(
        st.builds(Halt, k=st.integers(1, 45), when=st.sampled_from(("before", "after"))), max_size=3
    ).map(tuple),
    fails=st.lists(st.sampled_from((*OF_PROVIDER, *OF_STORE)), max_size=4).map(tuple),
    slow=st.lists(
        st.tuples(st.sampled_from(("open", "send", "say", "write")), st.sampled_from((0.1, 0.7))),
        max_size=2,
        unique_by=lambda one: one[0],
    ).map(tuple),
    unanswered=st.integers(0, 2),
    tempo=st.sampled_from((EVEN, SLOW_STORE)),
)


def played(conversation: Conversation, troubles: Troubles) -> Outcome:
    """What comes of it. Raises AssertionError when a law that holds for every run was broken."""

    async def main() -> Outcome:
        know_tasks()
        outside = Outside()
        lost = ProviderFailure("timeout", "no answer, and no list")
        outside.provider.lost_answers.extend([lost] * troubles.unanswered)
        client = asyncio.create_task(_to_the_end(outside, conversation))
        halts = enumerate((*troubles.halts, None))
        await relay(client, [partial(_worker, outside, n, halt, troubles) for n, halt in halts])
        return _timeless(outcome(outside), conversation)

    return virtual_time.run(main())


def _timeless(found: Outcome, conversation: Conversation) -> Outcome:
    """Whether the session rested between two turns depends on who is faster when they are not asked one by one."""
    if conversation.gap is None:
        return found
    return replace(found, facts=[fact for fact in found.facts if fact[0] != "session.idled"])


def _worker(outside: Outside, n: int, halt: Halt | None, troubles: Troubles) -> Worker:
    worker = Worker(outside, f"worker-{n}", halt=halt, tempo=troubles.tempo)
    worker.effects.slow.update(troubles.slow)
    for name in troubles.fails:
        refused = ProviderFailure("overloaded_error", "529: busy")
        away = Transient("database_away", "no connection")
        error: Exception = refused if name in OF_PROVIDER else away
        worker.effects.fails.setdefault(name, []).append(error)
    return worker


async def _to_the_end(outside: Outside, conversation: Conversation) -> None:
    scripts, gap = conversation.scripts, conversation.gap
    asking = asyncio.create_task(_ask_all(outside, scripts, gap)) if gap is not None else None
    for n, script in enumerate(scripts, start=1):
        if asking is None:
            _ask(outside, n, script)
        await _see_through(outside, n, script, scripts[: n - 1])
    await outside.until(lambda: outside.settled, "the end")


async def _ask_all(outside: Outside, scripts: tuple[str, ...], gap: float) -> None:
    for n, script in enumerate(scripts, start=1):
        _ask(outside, n, script)
        await asyncio.sleep(gap)


def _ask(outside: Outside, n: int, script: str) -> None:
    outside.ask(turn(f"t{n}", f"number {n} {script} [[script: {script}]]", float(n)))


async def _see_through(outside: Outside, n: int, script: str, before: tuple[str, ...]) -> None:
    """What a client does during the `n`-th turn, until it has ended."""
    if script in ("confirm", "custom_tool"):
        waits = sum(one in ("confirm", "custom_tool") for one in before)
        call = _call(await outside.said("turn.requires_action", count=waits + 1))
        reply = confirming if script == "confirm" else answering
        outside.ask(reply(call, 10.0 + n))
    if script == "hold":
        await outside.said("user.message", count=n)
        outside.ask(interrupting(20.0 + n))
    ends = ("turn.completed", "turn.interrupted", "turn.refused")
    await outside.until(
        lambda: any(
            event.type in ends and event.turn_id == f"t{n}" for event in outside.publisher.events
        ),
        f"the end of turn {n}",
    )


def _call(asked: Event) -> str:
    """The tool call that waits."""
    return msgspec.json.decode(asked.data, type=TurnRequiresAction).pending_actions[0].tool_use_id
