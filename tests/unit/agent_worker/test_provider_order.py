"""Whatever becomes of streams and processes, a thread is recorded in the order of the provider's list."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from random import Random

import pytest

from services.agent_worker.provider import stream
from services.agent_worker.provider.feed import SETTLE_SECONDS, SessionFeed
from services.agent_worker.provider.room import Room
from shared.moment import rfc3339
from shared.session import decide, initial, provider
from shared.session.inputs import Bound, Filed, Input, Seen, TurnRequested
from shared.session.state import SessionState
from tests.builders import SESSION, TENANT, USER
from tests.unit.agent_worker.provider_tape import BEGIN, CALM, Tape, Weather, now
from tests.unit.agent_worker.virtual_time import run

pytestmark = pytest.mark.unit
SCRIPTS = (
    "[[script: tools rounds=4 swap=1]]",
    "[[script: tools rounds=3]]",
    "[[script: confirm calls=2]]",
    "[[script: custom_tool calls=2 rounds=2]]",
    "[[script: threads children=2]]",
    "[[script: threads children=2 ask=1]]",
    "[[script: long events=60]]",
    "[[script: error_retrying]]",
    "[[script: reply]]",
)
CHILDREN = (
    "[[script: threads children=2]]",
    "[[script: threads children=3 pace=0.1]]",
    "[[script: reply]]",
)


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK looks up the platform's name in a thread, which virtual time knows nothing of."""

    def inline(function: Callable[[], str]) -> Callable[[], Awaitable[str]]:
        async def call() -> str:
            return function()

        return call

    monkeypatch.setattr("anthropic._base_client.asyncify", inline)


class Recorder:
    """A worker reduced to what it records: it hears, writes, and dies now and then before or after it wrote.
    `seen`: thread, id and type of what was recorded; `late`: how long after it was shown each was given on; `lost`:
    what the lists had and the record had not when a turn ended."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.dice = Random(tape.dice.random())
        self.state: SessionState = initial(TENANT, SESSION)
        self.seen: list[tuple[str | None, str, str]] = []
        self.late: dict[str, float] = {}
        self.lost: list[str] = []
        self._crashes = self.dice.choice(tape.weather.crashes)
        self._blocked = self.dice.choice(tape.weather.blocked)
        self._turns = 0
        self._answered: set[str] = set()

    def at(self) -> str:
        return rfc3339(datetime.fromtimestamp(BEGIN / 1e6 + now(), UTC))

    def take(self, input: Input) -> None:
        decision = decide(self.state, input)
        self.state = decision.state
        self.seen += [
            (event.thread_id, event.event_id, event.type)
            for event in decision.events
            if not event.event_id.startswith(SESSION)
        ]

    def ask(self, text: str) -> None:
        self._turns += 1
        request = TurnRequested(
            tenant_id=TENANT,
            session_id=SESSION,
            user_id=USER,
            at=self.at(),
            turn_id=f"t{self._turns}",
            content=text,
        )
        self.take(Filed(input_id=f"turn:{self._turns}", request=request))
        if self.state.provider_session_id is None:
            self.take(Bound(provider_session_id=self.tape.id, agent="a", model="m", at=self.at()))

    async def live(self, text: str) -> None:
        """One turn, from its message to its end, over as many lives as it takes."""
        self.ask(text)
        fresh, sent = not self.seen, False
        while self.state.turn is not None:
            feed = SessionFeed(
                self.tape.client,
                self.state,
                fresh=fresh,
                now=self.at,
                chance=self.dice.random,
                on_preview=lambda raw: None,
                room=Room(),
            )
            fresh = False
            try:
                await feed.opened()
                if not sent:
                    sent = self.tape.put(
                        {"type": "user.message", "content": [{"type": "text", "text": text}]}
                    )
                    assert sent
                while self.state.turn is not None:
                    self._answer()
                    batch = await feed.next()
                    for event in batch:
                        self.late[event.id] = now() - self.tape.came.get(event.id, now())
                    if self.dice.random() < self._crashes:
                        break
                    if self.dice.random() < self._blocked:
                        await asyncio.sleep(self.dice.choice((0.05, 0.3, 1.0)))
                    self.take(Seen(events=batch, at=self.at()))
                    if self.dice.random() < self._crashes:
                        break
            finally:
                await feed.close()
        self.lost += missing(self)

    def _answer(self) -> None:
        if not self.state.awaits_people:
            return
        for action in self.state.pending:
            if action.tool_use_id in self._answered:
                continue
            self._answered.add(action.tool_use_id)
            loop = asyncio.get_running_loop()
            loop.call_later(self.dice.uniform(0, 1), self._give, action.tool_use_id, action.kind)

    def _give(self, id: str, kind: str) -> None:
        if kind == "confirmation":
            self.tape.put({"type": "user.tool_confirmation", "tool_use_id": id, "result": "allow"})
        else:
            content = [{"type": "text", "text": "42"}]
            self.tape.put(
                {"type": "user.custom_tool_result", "custom_tool_use_id": id, "content": content}
            )


def wrong(recorder: Recorder) -> list[str]:
    """What was recorded of a thread after something that its list has behind it."""
    found = []
    threads = {thread for thread, _, _ in recorder.seen}
    for thread in threads:
        listed = [provider.head(raw).id for raw in recorder.tape.listed(thread)]
        place = {id: n for n, id in enumerate(listed)}
        last, newest = -1, ""
        for where, id, kind in recorder.seen:
            if where != thread or id not in place:
                continue
            if place[id] < last:
                found.append(f"{thread}: {kind} {place[id]} after {newest} {last}")
            else:
                last, newest = place[id], kind
    return found


def missing(recorder: Recorder) -> list[str]:
    """What a thread's list has and the record has not."""
    tape = recorder.tape
    recorded = {id for _, id, _ in recorder.seen}
    threads = [
        None,
        *(thread for thread in tape.session.threads if tape.session.threads[thread].parent),
    ]
    heads = [(thread, provider.head(raw)) for thread in threads for raw in tape.listed(thread)]
    return [f"{thread}: {head.type}" for thread, head in heads if head.id not in recorded]


async def play(
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
    weather: Weather,
    scripts: tuple[str, ...] = SCRIPTS,
) -> Recorder:
    """Some turns of one session, recorded."""
    tape = Tape(seed, weather)
    monkeypatch.setattr(stream, "primary", tape.primary)
    monkeypatch.setattr(stream, "child", tape.child)
    await tape.begin()
    recorder = Recorder(tape)
    for number in range(tape.dice.randrange(1, 4)):
        async with asyncio.timeout(3_000):
            await recorder.live(f"{number} {tape.dice.choice(scripts)}")
    await tape.client.close()
    await tape.world.driver.stop()
    return recorder


# Three thousand seeds of each were tried; these are the first, and some that failed once.
SEEDS = (*range(34), 45, 50, 62, 72, 97, 106, 112, 157, 197, 257, 437, 591, 992, 1399, 1697)
# Of the plays with children. A listener that does not take up a child it finds running fails 7 of these 96 plays,
# one that reads no child's list at an idle 26. Of four faults that were tried 24 seeds find three; the fourth is
# not found by sixty either.
CHILDREN_SEEDS = 24
WEATHERS = {
    "swaps": Weather(ends=("",)),
    "cuts": Weather(ends=("cut", "reset", ""), between=True),
    "stalls": Weather(),
    "lists": Weather(failing=0.3),
}


@pytest.mark.parametrize("weather", WEATHERS)
def test_what_is_recorded_of_a_thread_is_in_the_lists_order(
    weather: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for seed in SEEDS:
        recorder = run(play(seed, monkeypatch, WEATHERS[weather]))
        if words := [*wrong(recorder), *recorder.lost]:
            found[seed] = words
    assert found == {}


@pytest.mark.parametrize("weather", WEATHERS)
def test_what_children_did_is_recorded_when_their_turn_ends(
    weather: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when a process dies while a child works: nothing on the primary thread says again that it runs."""
    found = {}
    for seed in range(CHILDREN_SEEDS):
        recorder = run(play(seed, monkeypatch, WEATHERS[weather], CHILDREN))
        if words := [*wrong(recorder), *recorder.lost]:
            found[seed] = words
    assert found == {}


def test_an_undisturbed_stream_is_passed_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for a list, but what comes behind a message of which only the list has the place."""
    waited: list[float] = []
    for seed in range(20):
        recorder = run(play(seed, monkeypatch, CALM))
        waited += recorder.late.values()
        assert wrong(recorder) == []
        idles = [id for _, id, kind in recorder.seen if kind == "session.status_idle"]
        assert idles
    waited.sort()
    assert waited[int(len(waited) * 0.9)] <= SETTLE_SECONDS + 0.001
    assert waited[len(waited) // 2] <= SETTLE_SECONDS + 0.001
