"""A feed pumped into its shell: in batches, bounded, and never silent when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace

from services.agent_worker.ports import Head, ProviderFailure, ProviderFeed
from services.agent_worker.session import watch
from services.agent_worker.session.core_inputs import CoreInputs
from services.agent_worker.session.driven import DrivenSession
from services.agent_worker.session.trace import Attempts, TurnTrace
from services.agent_worker.session.watch import MAX_BYTES, MAX_WAITING, Watch
from shared.moment import parse
from shared.session.inputs import Failed, Input, ProviderEvent, Seen
from shared.session.state import SessionState
from tests.builders import Wire, at, bound, turn
from tests.unit.agent_worker.virtual_time import virtual
from tests.unit.session.specification import after

pytestmark = pytest.mark.unit
OPENING = 30.0
T = TypeVar("T")
GONE = ProviderFailure("not_found_error", "404", lost=True)
RUNNING = after(turn("t1"), bound()).state


class Telling:
    """A feed that gives what it is told to: batches, or an exception that ends it."""

    def __init__(self) -> None:
        self.says: asyncio.Queue[tuple[ProviderEvent, ...] | Exception] = asyncio.Queue()
        self.listening = asyncio.Event()
        self.given = 0

    async def opened(self) -> None:
        await self.listening.wait()

    async def next(self) -> tuple[ProviderEvent, ...]:
        said = await self.says.get()
        if isinstance(said, Exception):
            raise said
        self.given += 1
        return said


class Session(DrivenSession):
    """The driven session, and the shell and the provider as the watch sees them."""

    def __init__(self, state: SessionState = RUNNING) -> None:
        head = Head(key=(state.tenant_id, state.session_id), epoch=1, version=1, state=state)
        super().__init__(head, TurnTrace(Attempts()))
        self.tells = Telling()
        self.refuses: Exception | None = None
        self.asking_for = False
        self.heard: list[Input] = []
        self.listened: list[bool] = []
        self.broken: list[BaseException] = []
        self.watch = Watch(
            self,
            self._listen,
            fresh=True,
            inputs=CoreInputs(lambda: parse(at(7)), lambda: 0.25),
            signal=self.heard.append,
            start=self._start,
            opening=OPENING,
        )

    @asynccontextmanager
    async def _listen(self, fresh: bool) -> AsyncIterator[ProviderFeed]:
        self.listened.append(fresh)
        if self.refuses is not None:
            raise self.refuses
        yield self.tells

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.broken.append(error)

    def sending(self, turn_id: str) -> bool:
        return self.asking_for


async def moments() -> None:
    """Let everything happen that can."""
    await asyncio.sleep(0.001)


@virtual
async def test_batches_become_signals() -> None:
    session, wire = Session(), Wire()
    first, second = (wire.prompt(), wire.running()), (wire.idle(),)
    session.tells.says.put_nowait(first)
    session.tells.says.put_nowait(second)
    await moments()
    heard = [
        Seen(events=batch, at=at(7), chance=0.25, provider_session_id="sesn_1")
        for batch in (first, second)
    ]
    assert session.heard == heard


@virtual
async def test_a_watch_reads_no_further_than_the_shell_has_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "MAX_BYTES", 1_000_000)
    session, wire = Session(), Wire()
    batch = tuple(wire.running() for _ in range(MAX_WAITING // 4))
    for _ in range(8):
        session.tells.says.put_nowait(batch)
    await moments()
    assert session.tells.given == 4
    session.watch.taken(session.heard)
    await moments()
    assert session.tells.given == 8


@virtual
async def test_a_watch_reads_no_more_bytes_than_it_may_hold() -> None:
    session, wire = Session(), Wire()
    large = wire.message("x" * (MAX_BYTES // 2))
    for _ in range(6):
        session.tells.says.put_nowait((large,))
    await moments()
    assert session.tells.given == 2
    session.watch.taken(session.heard)
    await moments()
    assert session.tells.given == 4


@virtual
async def test_a_feed_is_to_be_had_once_it_listens() -> None:
    session = Session()
    asked = asyncio.create_task(session.watch.feed())
    await moments()
    assert not asked.done()
    session.tells.listening.set()
    assert await asked is session.tells


@virtual
async def test_a_feed_that_does_not_listen_in_time_fails_the_send() -> None:
    session = Session()
    with pytest.raises(ProviderFailure) as failed:
        await session.watch.feed()
    assert (failed.value.reason, failed.value.final) == ("stream_unavailable", False)
    assert asyncio.get_running_loop().time() == pytest.approx(OPENING)


@virtual
async def test_a_lost_session_is_told_to_whoever_asks_for_its_feed() -> None:
    session = Session()
    session.asking_for = True
    session.refuses = GONE
    with pytest.raises(ProviderFailure, match="404"):
        await session.watch.feed()
    session.asking_for = False
    session.watch.tell()
    assert session.heard == [], "once is enough"


@virtual
async def test_a_lost_session_is_signalled_when_nobody_asks() -> None:
    session = Session()
    await moments()
    session.tells.says.put_nowait(GONE)
    await moments()
    (failed,) = session.heard
    assert isinstance(failed, Failed)
    assert (failed.turn_id, failed.reason, failed.lost) == ("t1", "not_found_error", True)


@virtual
async def test_a_lost_session_is_not_signalled_while_the_turn_is_being_sent() -> None:
    """The send hears of it itself, or it was in time."""
    session = Session()
    session.asking_for = True
    await moments()
    session.tells.says.put_nowait(GONE)
    await moments()
    assert session.heard == []
    session.asking_for = False
    session.watch.tell()
    assert len(session.heard) == 1


@virtual
async def test_between_turns_a_lost_session_is_nobodys_failure() -> None:
    session = Session(replace(RUNNING, turn=None, progress=None))
    await moments()
    session.tells.says.put_nowait(GONE)
    await moments()
    assert session.heard == []
    with pytest.raises(ProviderFailure, match="404"):
        await session.watch.feed()


@virtual
async def test_an_error_that_nobody_foresaw_ends_the_drive() -> None:
    session, bug = Session(), ValueError("a bug")
    await moments()
    session.tells.says.put_nowait(bug)
    await moments()
    assert session.broken == [bug]


@virtual
async def test_a_watch_ends_when_it_is_told_to() -> None:
    session = Session()
    await moments()
    session.watch.cancel()
    await moments()
    session.tells.says.put_nowait((Wire().running(),))
    await moments()
    assert session.heard == []


@virtual
async def test_a_lost_session_is_heard_out_by_listening_anew_once_all_was_decided_on() -> None:
    session, wire = Session(), Wire()
    session.asking_for = True
    session.tells.says.put_nowait((wire.prompt(),))
    await moments()
    asked = asyncio.create_task(session.watch.hear_out())
    await moments()
    assert session.listened == [True], "what is signalled and not written would come again"
    session.watch.taken(session.heard)
    session.tells.says.put_nowait((wire.running(),))
    session.tells.says.put_nowait(GONE)
    await asked
    assert session.listened == [True, False]
    assert [type(input) for input in session.heard] == [Seen, Seen], "who asked tells of the loss"
    session.asking_for = False
    session.watch.tell()
    assert len(session.heard) == 2


@virtual
async def test_a_lost_session_that_cannot_be_read_is_not_given_up_yet() -> None:
    session = Session()
    with pytest.raises(ProviderFailure) as failed:
        await session.watch.hear_out()
    assert (failed.value.reason, failed.value.lost) == ("stream_unavailable", False)
    assert asyncio.get_running_loop().time() == pytest.approx(OPENING)


@virtual
async def test_who_hears_out_waits_no_longer_than_the_watch_lasts() -> None:
    """What was heard may have ended the attempt and given the session up."""
    session = Session()
    session.tells.says.put_nowait((Wire().prompt(),))
    await moments()
    asked = asyncio.create_task(session.watch.hear_out())
    await moments()
    session.watch.cancel()
    await asked
    assert asyncio.get_running_loop().time() < 1
