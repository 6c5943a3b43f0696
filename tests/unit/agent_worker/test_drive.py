"""Drive: which sessions are claimed, how leases are kept, what becomes of shells that fail."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from services.agent_worker.drive import DROPPED_SECONDS
from services.agent_worker.governor.governor import tenant
from services.agent_worker.leases import HANGS_SECONDS
from services.agent_worker.ports import NewInput, ProviderSession
from shared.errors import Transient
from shared.session.key import SessionKey
from shared.session.state import SessionState
from tests.builders import SESSION, TENANT, turn
from tests.fakes.store import Row
from tests.unit.agent_worker.outcome import the_log
from tests.unit.agent_worker.outside import Outside
from tests.unit.agent_worker.virtual_time import virtual
from tests.unit.agent_worker.worker import SETTINGS, Worker, know_tasks

pytestmark = pytest.mark.unit
KEY: SessionKey = (TENANT, SESSION)


def a_worker(outside: Outside, owner: str) -> Worker:
    worker = Worker(outside, owner)
    worker.start()
    return worker


def world() -> Outside:
    know_tasks()
    return Outside()


def asked(session: str, content: str = "hold on") -> NewInput:
    """A turn as intake files it, for any session."""
    body = {**msgspec.to_builtins(turn("t1", content).request), "session_id": session}
    key = (TENANT, session)
    return NewInput(key, "turn:t1", "turn.requested", msgspec.json.encode(body))


@virtual
async def test_what_this_process_files_is_claimed_at_once() -> None:
    outside = world()
    a_worker(outside, "one")
    await asyncio.sleep(10 * SETTINGS.poll_seconds + 0.01)
    outside.ask(turn())
    await asyncio.sleep(SETTINGS.poll_seconds / 3)
    assert outside.store.rows[KEY].owner == "one"


@virtual
async def test_what_another_process_filed_is_claimed_within_a_poll() -> None:
    outside = world()
    a_worker(outside, "one")
    await asyncio.sleep(1.0)
    await outside.store.file([asked("elsewhere")])
    await asyncio.sleep(SETTINGS.poll_seconds + 0.02)
    assert outside.store.rows[(TENANT, "elsewhere")].owner == "one"


@virtual
async def test_news_for_a_driven_session_reaches_its_driver_within_a_poll() -> None:
    outside = world()
    worker = a_worker(outside, "one")
    await outside.store.file([asked("elsewhere")])
    row = await _head(outside, "elsewhere", taken=1)
    again = msgspec.structs.replace(asked("elsewhere"), input_id="turn:t2")
    body = {**msgspec.json.decode(again.body), "turn_id": "t2"}
    await outside.store.file([msgspec.structs.replace(again, body=msgspec.json.encode(body))])
    await asyncio.sleep(SETTINGS.poll_seconds + 0.02)
    assert row.head.taken == 2
    assert worker.effects.done.count("claim") == 1


async def _head(outside: Outside, session: str, *, taken: int) -> Row:
    key = (TENANT, session)
    await outside.until(lambda: outside.store.rows[key].head.taken == taken, "the input taken in")
    return outside.store.rows[key]


@virtual
async def test_a_worker_drives_no_more_sessions_than_it_may() -> None:
    outside = world()
    await outside.store.file([asked(f"s{n:02d}") for n in range(SETTINGS.concurrency + 5)])
    a_worker(outside, "one")
    await asyncio.sleep(3 * SETTINGS.lease_seconds)
    owners = [row.owner for row in outside.store.rows.values()]
    assert owners.count("one") == SETTINGS.concurrency
    for session in list(outside.provider.sessions.values())[:5]:
        session.release()
    await asyncio.sleep(SETTINGS.linger_seconds + 2 * SETTINGS.poll_seconds)
    assert all(row.head.taken for row in outside.store.rows.values()), "none waits for ever"


@virtual
async def test_two_workers_share_no_session_and_leases_hold_for_as_long_as_they_live() -> None:
    outside = world()
    await outside.store.file([asked(f"s{n}") for n in range(15)])
    workers = [a_worker(outside, "one"), a_worker(outside, "two")]
    await asyncio.sleep(5 * SETTINGS.lease_seconds)
    rows = outside.store.rows.values()
    assert {row.owner for row in rows} == {"one", "two"}
    assert {row.head.epoch for row in rows} == {1}
    assert len(outside.received) == 15
    assert all("extend" in worker.effects.done for worker in workers)


@virtual
async def test_the_sessions_of_a_dead_worker_are_taken_up_when_its_leases_end() -> None:
    outside = world()
    first = a_worker(outside, "one")
    outside.ask(turn("t1", "hold on"))
    await outside.said("user.message")
    await first.kill()
    a_worker(outside, "two")
    row = outside.store.rows[KEY]
    await asyncio.sleep(SETTINGS.lease_seconds / 2)
    assert row.owner == "one"
    await asyncio.sleep(SETTINGS.lease_seconds)
    assert (row.owner, row.head.epoch) == ("two", 2)


@virtual
async def test_a_lease_that_was_lost_ends_its_shell() -> None:
    outside = world()
    a_worker(outside, "one")
    outside.ask(turn("t1", "hold on"))
    await outside.said("user.message")
    row = outside.store.rows[KEY]
    row.owner, row.wake_at = "thief", outside.clock().timestamp() + 600.0
    row.head = msgspec.structs.replace(row.head, epoch=row.head.epoch + 1)
    await asyncio.sleep(2 * SETTINGS.lease_seconds)
    (session,) = outside.provider.sessions.values()
    said = len(the_log(outside))
    session.release()
    await asyncio.sleep(1.0)
    assert session.previews == set(), "it listens no more"
    assert len(the_log(outside)) == said


@virtual
async def test_a_shell_that_failed_is_let_go_of_and_taken_up_again() -> None:
    outside = world()
    worker = a_worker(outside, "one")
    worker.effects.fails["write"] = [RuntimeError("a bug"), Transient("database_away", "gone")]
    outside.ask(turn())
    await outside.until(lambda: outside.settled, "an end")
    assert worker.effects.done.count("let_go") == 2
    assert outside.received == ["hello"]
    assert outside.store.rows[KEY].head.epoch == 3


@virtual
async def test_leases_are_kept_while_the_database_lets_go_of_others_late() -> None:
    """A loop that waits runs: leases that ran out meanwhile would bring the database more work."""
    outside = world()
    worker = a_worker(outside, "one")
    worker.effects.fails["write"] = [RuntimeError("a bug")]
    worker.effects.slow = {"let_go": 3 * HANGS_SECONDS}
    outside.ask(turn())
    await asyncio.sleep(2 * HANGS_SECONDS)
    extended = worker.effects.done.count("extend")
    await asyncio.sleep(SETTINGS.lease_seconds)
    assert worker.effects.done.count("extend") >= extended + 2


@virtual
async def test_a_session_that_the_database_left_goes_on_when_it_is_back() -> None:
    outside = world()
    worker = a_worker(outside, "one")
    worker.effects.fails["write"] = [Transient("database_away", "gone")]
    outside.ask(turn())
    # Nothing is wrong with the session: it does not wait as one does whose shell has a bug.
    async with asyncio.timeout(DROPPED_SECONDS / 2):
        await outside.until(lambda: outside.settled, "an end")
    assert outside.received == ["hello"]


@virtual
async def test_a_session_whose_claim_had_no_answer_goes_on_soon() -> None:
    """The database took the claim and died before it said so: the lease is ours, and nobody drives."""
    outside = world()
    await outside.store.file([asked(SESSION, "hello")])
    await outside.store.claim("one", 1, SETTINGS.lease_seconds)
    a_worker(outside, "one")
    async with asyncio.timeout(DROPPED_SECONDS / 2):
        await outside.until(lambda: outside.settled, "an end")
    assert outside.received == ["hello"]


@virtual
async def test_a_database_that_stood_still_for_longer_than_a_lease_takes_no_session_away() -> None:
    outside = world()
    worker = a_worker(outside, "one")
    still = 2 * SETTINGS.lease_seconds
    worker.effects.slow = {"write": still, "extend": still}
    outside.ask(turn())
    await outside.until(lambda: "claim" in worker.effects.done, "the claim")
    worker.effects.slow["claim"] = 10 * still  # nor does it claim its own session anew
    await outside.until(lambda: "write" in worker.effects.done, "the first write")
    await asyncio.sleep(0.9 * still)
    worker.effects.slow.clear()
    await outside.until(lambda: outside.settled, "an end")
    assert outside.received == ["hello"]
    assert "let_go" not in worker.effects.done
    assert outside.store.rows[KEY].head.epoch == 1


@virtual
async def test_a_claim_that_was_answered_late_is_driven_at_once() -> None:
    """The database stood still: by the time that counts, when it was asked for, the lease is over on arrival."""
    outside = world()
    worker = a_worker(outside, "one")
    worker.effects.slow = {"claim": 2 * SETTINGS.lease_seconds}
    outside.ask(turn())
    await outside.until(lambda: "claim" in worker.effects.done, "the claim")
    worker.effects.slow.clear()
    await outside.until(lambda: outside.settled, "an end")
    assert "let_go" not in worker.effects.done
    assert outside.store.rows[KEY].head.epoch == 1


@virtual
async def test_claims_go_on_when_the_database_is_back() -> None:
    outside = world()
    worker = a_worker(outside, "one")
    worker.effects.fails["claim"] = [Transient("database_away", "gone") for _ in range(3)]
    worker.effects.fails["extend"] = [Transient("database_away", "gone")]
    outside.ask(turn())
    await outside.until(lambda: outside.settled, "an end")
    assert worker.effects.done.count("claim") == 4
    assert outside.received == ["hello"]


@virtual
async def test_a_database_that_is_away_is_asked_at_each_poll_and_not_more_seldom() -> None:
    outside = world()
    worker = Worker(outside, "one")
    worker.effects.fails["claim"] = [Transient("database_away", "gone")] * 4
    await outside.store.file([asked("waits")])
    worker.start()
    await asyncio.sleep(4 * SETTINGS.poll_seconds + 0.02)
    assert outside.store.rows[(TENANT, "waits")].owner == "one"


@virtual
async def test_a_stop_gives_all_sessions_back() -> None:
    outside = world()
    worker = a_worker(outside, "one")
    await outside.store.file([asked(f"s{n}") for n in range(8)])
    await outside.until(lambda: len(outside.received) == 8, "eight messages")
    await worker.drain()
    rows = outside.store.rows.values()
    assert {row.owner for row in rows} == {None}
    assert all(row.wake_at is not None for row in rows), "each turn goes on elsewhere"


@virtual
async def test_a_stop_does_not_wait_for_ever() -> None:
    """The provider answers nothing: the send is cut off, and its session left for another to look."""
    outside = world()
    worker = a_worker(outside, "one")
    outside.ask(turn())
    await outside.until(lambda: "send" in worker.effects.done, "the send")
    worker.effects.going.clear()
    async with asyncio.timeout(SETTINGS.drain_seconds + 1.0):
        await worker.drain()
    assert outside.store.rows[KEY].owner == "one"


@virtual
async def test_what_a_session_asks_of_the_provider_is_its_tenants(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outside, asking = world(), set[str]()
    make = outside.provider.open

    async def noted(state: SessionState, *, look: bool) -> ProviderSession:
        asking.add(tenant())
        return await make(state, look=look)

    monkeypatch.setattr(outside.provider, "open", noted)
    a_worker(outside, "one")
    await outside.store.file([asked("s1")])
    await asyncio.sleep(3 * SETTINGS.poll_seconds)
    assert asking == {TENANT}
