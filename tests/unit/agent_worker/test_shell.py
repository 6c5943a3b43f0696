"""One session's shell: write, say, do; let go and taken up again; what is looked at first."""

from __future__ import annotations

import asyncio

import pytest

from services.agent_worker.ports import ProviderFailure
from shared.session.key import SessionKey
from tests.builders import SESSION, TENANT, archiving, confirming, interrupting, turn
from tests.fakes.provider import past_of
from tests.unit.agent_worker.outcome import the_log
from tests.unit.agent_worker.outside import Outside
from tests.unit.agent_worker.virtual_time import virtual
from tests.unit.agent_worker.worker import Worker, know_tasks

pytestmark = pytest.mark.unit
KEY: SessionKey = (TENANT, SESSION)


def given(owner: str = "one", outside: Outside | None = None) -> tuple[Outside, Worker]:
    """A world with a worker that runs."""
    know_tasks()
    outside = outside or Outside()
    worker = Worker(outside, owner)
    worker.start()
    return outside, worker


def types(outside: Outside) -> list[str]:
    return [event.type for event in the_log(outside)]


async def settled(outside: Outside) -> None:
    await outside.until(lambda: outside.settled, "an end")


@virtual
async def test_a_shell_writes_before_it_says_and_does() -> None:
    outside, worker = given()
    outside.ask(turn())
    await settled(outside)
    steps = [name for name in worker.effects.done if name not in ("file", "commit", "extend")]
    began = ["claim", "write", "say", "say", "open", "write", "say", "send", "write"]
    assert steps[: len(began)] == began
    assert steps[-1] == "release"


@virtual
async def test_what_is_done_does_not_wait_until_all_is_said() -> None:
    outside, worker = given()
    outside.ask(turn("t1"))
    await settled(outside)
    worker.effects.slow["say"] = 60.0
    outside.ask(turn("t2", "again"))
    await outside.until(lambda: outside.received == ["hello", "again"], "the message")
    assert "t2" not in [event.turn_id for event in the_log(outside)]
    worker.effects.slow.clear()
    await settled(outside)
    assert types(outside).count("turn.completed") == 2


@virtual
async def test_a_pass_begins_when_the_one_before_has_said_all() -> None:
    outside, worker = given()
    worker.effects.slow["say"] = 1.0
    outside.ask(turn())
    await settled(outside)
    steps = [name for name in worker.effects.done if name in ("write", "say")]
    began = [place for place, name in enumerate(steps) if name == "write"]
    said = [outside.store.rows[KEY].head.state.last_seq, steps.count("say")]
    assert said[0] == said[1]
    assert began[0] == 0
    assert [event.seq for event in the_log(outside)] == list(range(1, said[0] + 1))


@virtual
async def test_what_is_said_and_done_is_in_the_row_first() -> None:
    outside, worker = given()
    worker.effects.fails["say"] = [RuntimeError("the process loses its log")]
    outside.ask(turn())
    await outside.until(lambda: not worker.effects.fails["say"], "the failure")
    head = outside.store.rows[KEY].head
    assert [event.type for event in head.unsaid] == ["session.opened", "turn.accepted"]
    assert [type(command).__name__ for command in head.todo] == ["Open"]
    assert outside.publisher.events == []
    assert outside.provider.sessions == {}


@virtual
async def test_a_conversation_goes_on_under_one_claim() -> None:
    outside, worker = given()
    for n, word in enumerate(("one", "two", "three"), start=1):
        outside.ask(turn(f"t{n}", word))
        await outside.said("turn.completed", count=n)
    await settled(outside)
    assert worker.effects.done.count("claim") == 1
    assert outside.received == ["one", "two", "three"]


@virtual
async def test_an_idle_session_is_let_go_of() -> None:
    outside, _ = given()
    outside.ask(turn())
    await settled(outside)
    row = outside.store.rows[KEY]
    assert (row.owner, row.wake_at) == (None, None)
    assert row.head.state.status == "idle"


@virtual
async def test_a_wait_for_the_next_attempt_is_a_due_row_and_nobodys() -> None:
    outside, first = given()
    refused = ProviderFailure("rate_limit_error", "429", retry_after=30.0)
    outside.provider.refusals.append(refused)
    outside.ask(turn())
    await outside.said("turn.retrying")
    row = outside.store.rows[KEY]
    await outside.until(lambda: row.owner is None, "the lease given back")
    assert row.wake_at is not None
    assert 29 < row.wake_at - outside.clock().timestamp() <= 30
    await first.kill()
    given("another", outside)
    await settled(outside)
    assert outside.received == ["hello"]
    assert types(outside).count("turn.started") == 2


@virtual
async def test_a_message_whose_answer_was_lost_is_not_sent_again() -> None:
    """Not even a look could tell; the next attempt finds it."""
    outside, _ = given()
    outside.provider.lost_answers.append(ProviderFailure("provider_unreachable", "no answer"))
    outside.ask(turn())
    await settled(outside)
    assert outside.received == ["hello"]
    assert types(outside).count("turn.completed") == 1


@virtual
async def test_what_is_refused_for_good_is_not_tried_again() -> None:
    outside, worker = given()
    refused = ProviderFailure("invalid_request_error", "400: too long", final=True)
    outside.provider.refusals.append(refused)
    outside.ask(turn("t1"), turn("t2", "shorter"))
    await settled(outside)
    assert [kind for kind in types(outside) if kind in ("turn.failed", "turn.retrying")] == [
        "turn.failed"
    ]
    assert outside.received == ["shorter"]
    assert worker.effects.done.count("send") == 2


@virtual
async def test_a_session_that_is_refused_for_good_fails_its_turn_at_once() -> None:
    outside, worker = given()
    missing = ProviderFailure("agent_not_found", "404: no agent agent_nope", final=True)
    worker.effects.fails["open"] = [missing]
    began = outside.clock()
    outside.ask(turn("t1"))
    await outside.said("turn.failed")
    assert (outside.clock() - began).total_seconds() < 2
    (error,) = [e.data for e in the_log(outside) if e.type == "turn.failed"]
    assert b"agent_nope" in bytes(error)
    assert worker.effects.done.count("open") == 1
    outside.ask(turn("t2", "later"))
    await settled(outside)
    assert outside.received == ["later"], (
        "the session is of use as soon as what was missing is there"
    )


@virtual
async def test_an_answer_that_is_refused_for_good_is_a_dead_letter_and_the_call_waits_on() -> None:
    outside, worker = given()
    outside.ask(turn("t1", "[[script: confirm]]"))
    await outside.said("turn.requires_action")
    (action,) = outside.store.rows[KEY].head.state.pending
    refused = ProviderFailure("invalid_request_error", "400: not like this", final=True)
    worker.effects.fails["answer"] = [refused]
    outside.ask(confirming(action.tool_use_id))

    def letters() -> list[dict[str, bytes]]:
        records = outside.publisher.records
        return [dict(said.headers) for said in records if said.topic.endswith("dead.v1")]

    await outside.until(lambda: bool(letters()), "a dead letter")
    (letter,) = letters()
    assert letter["dead_reason"] == b"answer_refused"
    assert b"not like this" in letter["dead_detail"]
    assert outside.store.rows[KEY].head.state.pending == (action,)
    outside.ask(confirming(action.tool_use_id, second=5))
    await outside.said("turn.completed")
    assert len(letters()) == 1


@virtual
async def test_a_lost_provider_session_is_replaced() -> None:
    outside, _ = given()
    outside.ask(turn("t1", "one"))
    await settled(outside)
    (first,) = outside.provider.sessions.values()
    first.close(erase=True)
    outside.ask(turn("t2", "two"))
    await settled(outside)
    assert [session.messages for session in outside.provider.sessions.values()] == [
        [[{"type": "text", "text": "one"}]],
        [[{"type": "text", "text": past_of("sesn_1")}, {"type": "text", "text": "two"}]],
    ]
    assert types(outside).count("session.rotated") == 1


@virtual
async def test_an_answer_to_nothing_becomes_a_dead_letter() -> None:
    outside, _ = given()
    outside.ask(turn(), confirming("sevt_nobody"))
    await settled(outside)
    (letter,) = [said for said in outside.publisher.records if said.topic.endswith("dead.v1")]
    headers = dict(letter.headers)
    assert headers["dead_reason"] == b"unknown_action"
    assert b"sevt_nobody" in headers["dead_detail"]
    assert types(outside)[-2:] == ["turn.completed", "session.idled"]


@virtual
async def test_an_interrupt_waits_for_the_message_it_shall_stop() -> None:
    """It was asked for together with the turn: an interrupt that came first would stop nothing."""
    outside, worker = given()
    outside.ask(turn("t1", "hold on"), interrupting(1))
    await settled(outside)
    provider = [name for name in worker.effects.done if name in ("open", "send", "interrupt")]
    assert provider == ["open", "send", "interrupt"]
    assert types(outside).count("turn.interrupted") == 1


@virtual
async def test_an_interrupt_that_fails_hits_no_other_turn() -> None:
    outside, worker = given()
    away = [ProviderFailure("provider_unreachable", "no answer") for _ in range(3)]
    worker.effects.fails["interrupt"] = list(away)
    outside.ask(turn("t1", "hold on"), turn("t2", "[[script: confirm]]"))
    await outside.said("user.message")
    outside.ask(interrupting(1))
    await outside.until(lambda: len(worker.effects.fails["interrupt"]) < 3, "a try")
    (session,) = outside.provider.sessions.values()
    session.release()  # the turn ends by itself, and the next one begins
    await outside.said("turn.requires_action")
    await outside.until(lambda: outside.store.rows[KEY].owner is None, "the lease given back")
    assert "user.interrupt" not in types(outside)
    assert worker.effects.done.count("interrupt") == 1, "the turn was over before the second try"


@virtual
async def test_a_turn_is_not_sent_while_an_interrupt_of_the_one_before_is_on_its_way() -> None:
    outside, worker = given()
    worker.effects.slow["interrupt"] = 1.0
    outside.ask(turn("t1", "hold on"), turn("t2", "[[script: confirm]]"))
    await outside.said("user.message")
    outside.ask(interrupting(1))
    await outside.until(lambda: "interrupt" in worker.effects.done, "the interrupt")
    (session,) = outside.provider.sessions.values()
    session.release()
    await outside.said("turn.requires_action")
    await outside.until(lambda: outside.store.rows[KEY].owner is None, "the lease given back")
    assert "turn.interrupted" not in types(outside)
    assert types(outside).index("user.interrupt") < types(outside).index("turn.requires_action")


@virtual
async def test_a_closed_session_is_closed_at_the_provider() -> None:
    outside, worker = given()
    outside.ask(turn())
    await outside.said("turn.completed")
    outside.ask(archiving(5))
    await settled(outside)
    (session,) = outside.provider.sessions.values()
    assert session.closed
    assert worker.effects.done.count("close") == 1
    assert types(outside)[-2:] == ["session.archived", "session.status_terminated"]


@virtual
async def test_a_shell_that_was_overtaken_says_nothing() -> None:
    outside, _ = given()
    outside.ask(turn("t1", "hold on"))
    await outside.said("user.message")
    row = outside.store.rows[KEY]
    row.wake_at = outside.clock().timestamp()
    (rival,) = await outside.store.claim("rival", 1, 60.0)
    said = len(outside.publisher.records)
    (session,) = outside.provider.sessions.values()
    session.release()
    await asyncio.sleep(0.3)
    events = [r for r in outside.publisher.records[said:] if r.topic.endswith("events.v1")]
    assert events == []
    assert (row.owner, row.head.epoch) == ("rival", rival.epoch)


@virtual
async def test_a_stop_in_mid_turn_leaves_the_session_due_at_once() -> None:
    outside, first = given()
    outside.ask(turn("t1", "hold on"))
    await outside.said("user.message")
    await first.drain()
    row = outside.store.rows[KEY]
    assert row.owner is None
    assert row.wake_at is not None
    assert row.wake_at <= outside.clock().timestamp()
    given("another", outside)
    (session,) = outside.provider.sessions.values()
    await outside.until(lambda: row.owner == "another", "the next driver")
    session.release()
    await settled(outside)
    assert outside.received == ["hold on"]
    assert types(outside).count("turn.completed") == 1


@virtual
async def test_a_stop_waits_for_what_is_being_asked() -> None:
    """A send that is cut off would have to be looked for; one that is awaited is known."""
    outside, first = given()
    outside.ask(turn())
    await outside.until(lambda: "send" in first.effects.done, "the send")
    await first.drain()
    assert outside.store.rows[KEY].owner is None
    assert outside.received == ["hello"]
    given("another", outside)
    await settled(outside)
    assert outside.received == ["hello"]
