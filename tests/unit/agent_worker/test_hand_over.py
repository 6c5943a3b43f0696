"""Inputs handed to the driver of their session: filed by the write that takes them in, and lost nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from services.agent_worker.ports import Head, NewInput
from shared.errors import Transient
from shared.session.inputs import Filed
from shared.session.key import SessionKey
from tests.builders import SESSION, TENANT, interrupting, turn
from tests.unit.agent_worker.effects import Tempo
from tests.unit.agent_worker.outcome import the_log
from tests.unit.agent_worker.outside import Outside
from tests.unit.agent_worker.virtual_time import virtual
from tests.unit.agent_worker.worker import EVEN, Worker, know_tasks

pytestmark = pytest.mark.unit
KEY: SessionKey = (TENANT, SESSION)


async def open_and_idle(tempo: Tempo = EVEN) -> tuple[Outside, Worker]:
    """A session that has had its first turn, driven still."""
    know_tasks()
    outside = Outside()
    worker = Worker(outside, "one", tempo=tempo)
    worker.start()
    outside.ask(turn("t1", "one"))
    await outside.said("turn.completed")
    await outside.until(lambda: not outside.store.rows[KEY].head.todo, "nothing under way")
    worker.effects.done.clear()
    return outside, worker


async def ended(outside: Outside, count: int) -> None:
    await outside.said("turn.completed", count=count)
    await outside.until(lambda: outside.settled, "an end")


@virtual
async def test_an_idle_session_takes_a_turn_in_by_one_write() -> None:
    outside, worker = await open_and_idle()
    outside.ask(turn("t2", "two"))
    await ended(outside, 2)
    assert "file" not in worker.effects.done
    assert worker.effects.done.count("take_in") == 1
    assert worker.effects.done.index("take_in") < worker.effects.done.index("commit")
    assert outside.received == ["one", "two"]


@virtual
async def test_the_message_goes_before_the_events_are_said() -> None:
    """Of what a turn begins with nobody waits for the events on the log."""
    outside, worker = await open_and_idle(
        Tempo("as begun", store=0.01, publisher=0.0, provider=0.0)
    )
    outside.ask(turn("t2", "two"))
    await ended(outside, 2)
    done = worker.effects.done
    assert done.index("take_in") < done.index("send") < done.index("say")


@virtual
async def test_the_turns_of_a_batch_are_taken_in_together_and_in_order() -> None:
    outside, worker = await open_and_idle()
    outside.ask(turn("t2", "two"), turn("t3", "three"))
    await ended(outside, 3)
    assert worker.effects.done.count("take_in") == 1
    assert outside.received == ["one", "two", "three"]


@virtual
async def test_a_turn_asked_for_again_changes_nothing() -> None:
    outside, _ = await open_and_idle()
    outside.ask(turn("t1", "other words"), turn("t2", "two"))
    await ended(outside, 2)
    outside.ask(turn("t2", "two"))
    await outside.until(lambda: outside.settled, "an end")
    assert outside.received == ["one", "two"]
    assert [event.type for event in the_log(outside)].count("turn.accepted") == 2


@virtual
async def test_a_running_turn_hears_of_an_interrupt_by_one_write() -> None:
    outside, worker = await open_and_idle()
    outside.ask(turn("t2", "hold on"))
    await outside.until(lambda: outside.received == ["one", "hold on"], "the message")
    await asyncio.sleep(1.0)  # all that it says so far is recorded
    outside.ask(interrupting())
    await outside.said("turn.interrupted")
    assert "file" not in worker.effects.done


@virtual
async def test_intake_files_what_no_driver_could() -> None:
    """The database fails the driver's write; nobody knows whether it was done."""
    outside, worker = await open_and_idle()
    worker.effects.fails["take_in"] = [Transient("database_away", "it starts again")]
    outside.ask(turn("t2", "two"))
    await ended(outside, 2)
    assert worker.effects.done.count("file") == 1
    assert outside.received == ["one", "two"]


@virtual
async def test_a_session_that_is_let_go_of_meanwhile_is_claimed_anew() -> None:
    outside, worker = await open_and_idle()
    worker.effects.slow["release"] = 3.0
    await outside.until(lambda: "release" in worker.effects.done, "its release")
    outside.ask(turn("t2", "two"))
    await ended(outside, 2)
    assert "take_in" not in worker.effects.done
    assert outside.received == ["one", "two"]


@virtual
async def test_what_a_driver_may_not_take_in_at_once_it_finds_in_the_inbox(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Signals that came along are decided on all the same."""
    outside, worker = await open_and_idle()

    async def files_alone(head: Head, inputs: Sequence[NewInput]) -> Head | None:
        await outside.store.file(inputs)
        return None

    monkeypatch.setattr(outside.store, "take_in", files_alone)
    asked: list[Filed] = [turn(f"t{n}", f"word {n}") for n in range(2, 6)]
    for count, one in enumerate(asked, start=2):
        outside.ask(one)
        await outside.said("turn.completed", count=count)
    await ended(outside, 5)
    assert worker.effects.done.count("take_in") >= 1
    assert outside.received == ["one", *(f"word {n}" for n in range(2, 6))]
