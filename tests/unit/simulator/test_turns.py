"""Whole turns in memory: the order of events, what may be sent when, and what an interrupt does."""

import asyncio
import gc
import sys

import pytest

from infra.simulator import reply_to, text_of
from infra.simulator.errors import ApiError
from infra.simulator.play import status
from tests.unit.simulator.provider import Client, a_world, answer, confirm, message, play_through

pytestmark = pytest.mark.unit

INTERRUPT = {"type": "user.interrupt"}


def last_message(client: Client) -> str:
    messages = [event for event in client.listed() if event["type"] == "agent.message"]
    return text_of(messages[-1]["content"])


async def test_the_events_of_a_turn_have_one_order() -> None:
    client = Client(a_world())
    client.send(message("[[script: reply]] hi"))
    await client.idle("end_turn")
    assert [t for t in client.types() if t != "agent.thinking"] == [
        "session.status_running",
        "session.thread_status_running",
        "user.message",
        "span.model_request_start",
        "agent.message",
        "span.model_request_end",
        "session.thread_status_idle",
        "session.usage",
        "session.status_idle",
    ]
    assert last_message(client) == reply_to("[[script: reply]] hi")


async def test_the_same_seed_gives_the_same_events_but_for_times() -> None:
    def timeless(client: Client) -> list[object]:
        hidden = ("processed_at", "usage")
        return [{k: v for k, v in e.items() if k not in hidden} for e in client.everything()]

    runs = []
    for seed in (5, 5, 6):
        client = Client(a_world(seed))
        for prompt in ("one", "[[script: tools]]", "[[script: threads ask=1]]"):
            await play_through(client, prompt)
        runs.append(timeless(client))
    assert runs[0] == runs[1] != runs[2]


async def test_a_queued_message_has_no_time_and_is_last() -> None:
    client = Client(a_world())
    sent = client.send(message("[[script: reply hold=1]] first"))[0]
    assert "processed_at" not in sent
    assert client.listed() == [sent]
    await client.until(lambda e: e["type"] == "session.thread_status_running")
    second = client.send(message("second"))[0]
    assert client.listed()[-1] == second
    client.session.releases += 1
    client.world.driver.wake(client.session)
    await client.idle("end_turn")
    assert client.types().count("session.status_idle") == 1, "it joined the running turn"
    assert client.types().index("span.model_request_start") > 3
    assert last_message(client) == reply_to("second")
    assert all("processed_at" in event for event in client.listed())


async def test_two_equal_messages_get_two_ids() -> None:
    client = Client(a_world())
    one, two = client.send(message("same"), message("same"))
    assert one["id"] != two["id"]


async def test_nothing_but_answers_while_the_session_waits() -> None:
    client = Client(a_world())
    client.send(message("[[script: custom_tool calls=2]]"))
    first, second = (await client.idle("requires_action"))["stop_reason"]["event_ids"]
    with pytest.raises(ApiError, match=rf"waiting on responses to events \[{first}, {second}\]"):
        client.send(message("hello?"))
    client.send(answer(first))
    again = await client.until(
        lambda e: e["type"] == "session.status_idle" and e["stop_reason"]["event_ids"] == [second]
    )
    assert again["stop_reason"]["type"] == "requires_action"
    client.send(answer(second, "early bird"))
    await client.idle("end_turn")


async def test_a_second_result_is_taken_and_changes_nothing() -> None:
    client = Client(a_world())
    client.send(message("[[script: custom_tool]]"))
    call = (await client.idle("requires_action"))["stop_reason"]["event_ids"][0]
    client.send(answer(call, "first"))
    await client.idle("end_turn")
    requests = client.types().count("span.model_request_start")
    client.send(answer(call, "second"))
    await client.idle("end_turn")
    assert client.types()[-6:] == [
        "user.custom_tool_result",
        "session.status_running",
        "session.thread_status_running",
        "session.thread_status_idle",
        "session.usage",
        "session.status_idle",
    ]
    assert client.types().count("span.model_request_start") == requests


async def test_a_denied_call_fails_and_cannot_be_answered_twice() -> None:
    client = Client(a_world())
    client.send(message("[[script: confirm]]"))
    call = (await client.idle("requires_action"))["stop_reason"]["event_ids"][0]
    client.send({**confirm(call, "deny"), "deny_message": "not today"})
    with pytest.raises(ApiError, match="already been answered"):
        client.send(confirm(call))
    await client.idle("end_turn")
    result = next(e for e in client.listed() if e["type"] == "agent.tool_result")
    assert result["is_error"]
    assert text_of(result["content"]) == "not today"


async def test_an_interrupt_ends_a_wait() -> None:
    client = Client(a_world())
    client.send(message("[[script: custom_tool]]"))
    call = (await client.idle("requires_action"))["stop_reason"]["event_ids"][0]
    client.send(INTERRUPT, message("[[script: reply]] instead"))
    await client.idle("end_turn")
    await client.idle("end_turn")
    types = client.types()
    at = types.index("agent.tool_result")
    assert types[at : at + 5] == [
        "agent.tool_result",
        "user.interrupt",
        "session.thread_status_idle",
        "session.usage",
        "session.status_idle",
    ]
    assert last_message(client) == reply_to("[[script: reply]] instead")
    with pytest.raises(ApiError, match="no longer waiting"):
        client.send(answer(call))


async def test_an_interrupt_stops_a_running_turn() -> None:
    client = Client(a_world())
    client.send(message("[[script: tools hold=1]] work"))
    await client.until(lambda e: e["type"] == "agent.tool_result")
    client.send(INTERRUPT)
    await client.idle("end_turn")
    assert client.types()[-4:-1] == [
        "user.interrupt",
        "session.thread_status_idle",
        "session.usage",
    ]


async def test_an_interrupt_at_rest_is_echoed_and_nothing_follows() -> None:
    client = Client(a_world())
    client.send(INTERRUPT)
    await client.until(lambda e: e["type"] == "user.interrupt")
    assert client.types() == ["user.interrupt"]
    assert client.session.status == "idle"


async def test_an_exhausted_error_leaves_its_message_unprocessed_for_ever() -> None:
    client = Client(a_world())
    dropped = client.send(message("[[script: exhausted unprocessed=1]]"))[0]
    await client.idle("retries_exhausted")
    client.send(message("[[script: reply]] and on"))
    await client.idle("end_turn")
    assert last_message(client) == reply_to("[[script: reply]] and on")
    assert client.listed()[-1] == dropped


async def test_an_exhausted_error_drops_what_is_queued_behind_it() -> None:
    client = Client(
        a_world(), initial_events=[message("[[script: exhausted unprocessed=0 hold=1]]")]
    )
    await client.until(lambda e: e["type"] == "session.thread_status_running")
    status.error(client.session, "unknown_error", "not part of the turn", "retrying")
    client.session.releases += 1
    client.world.driver.wake(client.session)
    await client.idle("retries_exhausted")
    assert not client.session.inbox


async def test_an_inert_session_takes_messages_and_does_nothing() -> None:
    client = Client(a_world())
    client.send(message("[[script: exhausted inert=1]]"))
    await client.idle("retries_exhausted")
    before = client.types()
    client.send(message("are you there?"))
    assert client.session.driver is None
    assert client.types() == [*before, "user.message"]


async def test_a_terminal_error_ends_the_session() -> None:
    client = Client(a_world())
    client.send(message("[[script: terminal]]"))
    await client.until(lambda e: e["type"] == "session.status_terminated")
    assert "session.status_idle" not in client.types()
    assert "session.usage" not in client.types()
    with pytest.raises(ApiError, match="terminated"):
        client.send(message("more"))


async def test_a_budget_stops_between_requests_and_only_settling_events_pass() -> None:
    limit = {"type": "limit", "max_list_cost": {"amount": "150", "currency": "USD"}}
    client = Client(a_world(), budget=limit)
    client.send(message("[[script: budget]]"))
    await client.idle("budget_reached")
    with pytest.raises(ApiError) as refusal:
        client.send(message("more"))
    assert refusal.value.error_code == "budget_reached"
    client.send(INTERRUPT)
    assert "user.interrupt" not in client.types(), "accepted and ignored"
    client.session.budget = 5_000
    client.world.driver.wake(client.session)
    await client.idle("end_turn")


async def test_child_threads_share_ids_but_not_all_events() -> None:
    client = Client(a_world())
    await play_through(client, "[[script: threads children=1 ask=1]]")
    child = next(t for t in client.session.threads.values() if t.parent)
    primary = {entry.id: entry for entry in client.session.primary.log.processed}
    shared = [entry for entry in child.log.processed if entry.id in primary]
    assert {entry.type for entry in shared} == {
        "session.thread_status_running",
        "session.thread_status_idle",
        "agent.custom_tool_use",
    }
    call = next(entry for entry in shared if entry.type == "agent.custom_tool_use")
    assert call.at is not None
    assert (primary[call.id].at or 0) > call.at
    results = [e for e in client.everything() if e["type"] == "user.custom_tool_result"]
    assert len({event["id"] for event in results}) == 2


async def test_stream_order_can_differ_from_list_order() -> None:
    client = Client(a_world())
    await play_through(client, "[[script: tools swap=1 calls=1]]")
    listed = [event["id"] for event in client.listed()]
    seen = [event["id"] for event in client.seen if event.get("id") in set(listed)]
    assert sorted(seen, key=listed.index) != seen
    assert set(seen) == set(listed)


async def test_status_runs_behind_and_a_late_event_comes_after_the_idle() -> None:
    client = Client(a_world())
    client.send(message("[[script: reply late=1]]"))
    await client.idle("end_turn")
    await client.until(lambda e: e["type"] == "session.usage")
    assert client.types()[-2:] == ["session.status_idle", "session.usage"]
    status.terminate(client.session, listed=False)
    assert client.types()[-1] == "session.usage"
    assert b"session.status_terminated" in client.session.stream_only[0]


@pytest.mark.parametrize(
    ("bare", "missing"),
    [(1, {"evaluated_permission"}), (2, {"evaluated_permission", "evaluation"})],
)
async def test_a_call_may_leave_unsaid_that_it_asks(bare: int, missing: set[str]) -> None:
    client = Client(a_world())
    client.send(message(f"[[script: confirm bare={bare}]]"))
    (call,) = (await client.idle("requires_action"))["stop_reason"]["event_ids"]
    (use,) = (event for event in client.listed() if event["id"] == call)
    assert {"evaluated_permission", "evaluation"} - use.keys() == missing
    client.send(confirm(call))
    await client.idle("end_turn")


async def test_a_call_of_an_unfamiliar_type_is_confirmed_and_has_its_own_result() -> None:
    client = Client(a_world())
    client.send(message("[[script: unfamiliar]]"))
    (call,) = (await client.idle("requires_action"))["stop_reason"]["event_ids"]
    with pytest.raises(ApiError):
        client.send(answer(call))
    client.send(confirm(call))
    await client.idle("end_turn")
    (result,) = (event for event in client.listed() if event["type"] == "agent.browser_result")
    assert result["browser_use_id"] == call


async def test_streams_may_show_an_idle_before_the_call_that_it_names() -> None:
    client = Client(a_world())
    client.send(message("[[script: confirm ahead=1]]"))
    (call,) = (await client.idle("requires_action"))["stop_reason"]["event_ids"]
    assert call not in [event.get("id") for event in client.seen]
    await client.until(lambda event: event.get("id") == call)
    ids = [event["id"] for event in client.listed()]
    assert client.types()[ids.index(call) + 1 :][-1] == "session.status_idle"


def test_a_simulator_that_is_left_behind_without_a_loop_complains_of_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    complaints: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)

    async def left_behind() -> None:
        client = Client(a_world())
        client.send(message("[[script: reply hold=1]] hi"))
        await client.until(lambda e: e["type"] == "session.thread_status_running")

    loop = asyncio.new_event_loop()
    loop.run_until_complete(left_behind())
    loop.close()
    gc.collect()
    assert complaints == []
