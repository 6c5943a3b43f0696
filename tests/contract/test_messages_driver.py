"""Sessions on the Messages API: what they tell, and what becomes of what fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest
from msgspec.structs import replace

from infra.simulator import reply_to
from services.agent_worker.ports import ProviderFailure
from tests.contract.messages_place import (
    AGENT,
    JSON,
    Place,
    a_place,
    a_talk,
    answered,
    body,
    kinds,
    waiting,
)

pytestmark = pytest.mark.contract


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with a_place() as place:
        yield place


async def test_a_turn_is_told_like_one_of_a_managed_session(place: Place) -> None:
    talk = a_talk(place)
    await talk.open()
    async with talk.watching(fresh=True):
        idle = await talk.turn("[[script: reply]] hello")
    assert body(idle)["stop_reason"] == {"type": "end_turn"}
    assert kinds(talk) == [
        "session.status_running",
        "user.message",
        "span.model_request_start",
        *(["agent.thinking"] if "agent.thinking" in kinds(talk) else []),
        "agent.message",
        "span.model_request_end",
        "session.status_idle",
    ]
    assert "turn.completed" in talk.told
    assert len({event.id for event in talk.heard}) == len(talk.heard)
    said = next(event for event in talk.heard if event.type == "agent.message")
    [block] = body(said)["content"]
    assert block["text"] == reply_to("[[script: reply]] hello")


async def test_previews_say_the_message_under_its_own_id(place: Place) -> None:
    talk = a_talk(place)
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.turn("[[script: reply]] hello")
    said = next(event for event in talk.heard if event.type == "agent.message")
    start, *deltas = talk.previews
    assert start["event"] == {"type": "agent.message", "id": said.id}
    text = "".join(delta["delta"]["content"]["text"] for delta in deltas)
    assert text == body(said)["content"][0]["text"]
    assert {delta["event_id"] for delta in deltas} == {said.id}


async def test_the_model_sees_all_that_was_said_and_reads_it_from_its_cache(place: Place) -> None:
    talk = a_talk(place)
    await talk.open()
    long = "[[script: reply]] " + "a long story " * 400
    async with talk.watching(fresh=True):
        for text in (long, "[[script: reply]] and then?", "[[script: reply]] and then?"):
            await talk.turn(text)
    *_, last = await place.asked()
    roles = [message["role"] for message in last["request"]["messages"]]
    assert roles == ["user", "assistant", "user", "assistant", "user"]
    assert last["request"]["system"][0]["text"] == "You are brief."
    assert last["message"]["usage"]["cache_read_input_tokens"] > 1_000
    assert all(one["status"] == 200 for one in await place.asked())


async def test_calls_of_an_answer_wait_together_and_go_on_when_all_have_results(
    place: Place,
) -> None:
    talk = a_talk(place)
    await talk.open()
    async with talk.watching(fresh=True):
        idle = await talk.turn("[[script: custom_tool calls=2 rounds=2]] look")
        for round in range(2):
            first, second = waiting(idle)
            assert {action.tool_use_id for action in talk.state.pending} == {first, second}
            await answered(talk, second, f"second {round}")
            await answered(talk, second, "again")
            assert len(await place.asked()) == 1 + round
            await answered(talk, first, f"first {round}")
            idle = await talk.hear()
    assert body(idle)["stop_reason"]["type"] == "end_turn"
    assert talk.state.turn is None
    results = [
        block for m in (await place.asked())[-1]["request"]["messages"] for block in m["content"]
    ]
    given = [b["content"][0]["text"] for b in results if b["type"] == "tool_result"]
    assert given == ["second 0", "first 0", "second 1", "first 1"]


async def test_a_message_is_put_once_however_often_it_is_sent(place: Place) -> None:
    talk = a_talk(place)
    await talk.open()
    text = "[[script: reply]] once"
    async with talk.watching(fresh=True):
        talk.ask(text) if talk.state.turn is None else None
        await talk.send(text)
        await talk.send(text, look=True)
        await talk.hear()
    assert len(await place.asked()) == 1
    assert kinds(talk).count("user.message") == 1


async def test_who_dies_in_the_middle_of_an_answer_is_followed_by_who_asks_again(
    place: Place,
) -> None:
    talk = a_talk(place)
    await talk.open()
    text = "[[script: reply pace=40]] " + "slowly " * 20
    talk.ask(text) if talk.state.turn is None else None
    async with talk.watching(fresh=True):
        await talk.send(text)
        await talk.hear("span.model_request_start")
    before = [event.id for event in talk.heard]
    # Another worker, which knows what the head row says and nothing else.
    talk.world.provider = place.driver()  # type: ignore[misc]
    async with talk.watching():
        await talk.world.provider.send(talk.state, text, look=True)
        ended = await talk.hear("span.model_request_end")
        assert body(ended)["is_error"] is True
        assert body(ended)["model_usage"]["input_tokens"] > 0
        if kinds(talk).count("span.model_request_start") == 1:  # else it came along
            await talk.hear("span.model_request_start")
        await talk.world.provider.interrupt(talk.state)
        await talk.hear()
    assert not set(before) & {event.id for event in talk.heard[len(before) :]}
    assert kinds(talk).count("user.message") == 1
    assert kinds(talk).count("agent.message") == 0
    first, second = await place.asked()
    assert (first["finished"], second["finished"]) == (False, False)
    assert first["request"] == second["request"]


async def test_two_that_hold_one_conversation_record_one_answer(place: Place) -> None:
    talk, other = a_talk(place), a_talk(place)
    await talk.open()
    text = "[[script: reply hold=1]] both"
    talk.ask(text) if talk.state.turn is None else None
    async with talk.watching(fresh=True):
        sending = asyncio.create_task(talk.send(text))
        await talk.hear("user.message")
        other.state = talk.state
        held = place.driver()
        async with held.watch(talk.state, fresh=False, on_preview=lambda raw: None) as feed:
            await feed.opened()
            async with asyncio.timeout(10):
                while len(await place.asked()) < 2:  # noqa: ASYNC110 - polled until the deadline
                    await asyncio.sleep(0.01)
            async with httpx2.AsyncClient() as http:
                for _ in range(2):
                    await http.post(f"{place.url}/_sim/messages/release")
            await talk.hear()
        await sending
    [kept] = place.store.kept.values()
    said = [e for e in kept if b"agent.message" in e.event]
    ends = [e for e in kept if b'"session.status_idle"' in e.event]
    assert (len(said), len(ends)) == (1, 1)
    assert len(await place.asked()) == 2  # both are paid for


async def test_an_interrupt_ends_what_runs_and_the_next_turn_goes_on(place: Place) -> None:
    talk = a_talk(place)
    await talk.open()
    async with talk.watching(fresh=True):
        idle = await talk.turn("[[script: custom_tool calls=2]] look")
        await talk.world.provider.interrupt(talk.state)
        idle = await talk.hear()
        assert body(idle)["stop_reason"] == {"type": "end_turn"}
        assert "turn.interrupted" in talk.told
        await talk.world.provider.interrupt(talk.state)  # nothing runs
        idle = await talk.turn("[[script: reply]] go on")
    assert body(idle)["stop_reason"] == {"type": "end_turn"}
    assert (await place.asked())[-1]["status"] == 200


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "respond", "status": 529},
        {"kind": "respond", "status": 429, "headers": {"retry-after": "0.2"}},
        {"kind": "respond", "status": 500},
        {"kind": "cut", "after": 5},
        {"kind": "reset", "after": 5},
        {"kind": "truncate", "after": 5},
        {"kind": "error_event", "after": 5},
        {"kind": "bad_json", "after": 5},
        {"kind": "drop"},
    ],
    ids=lambda fault: f"{fault['kind']}{fault.get('status', '')}",
)
async def test_what_passes_is_tried_again_and_answered_once(place: Place, fault: JSON) -> None:
    await place.faults({"match": {"path": "/v1/messages$", "nth": 1}, "fault": fault})
    talk = a_talk(place)
    await talk.open()
    async with talk.watching(fresh=True):
        idle = await talk.turn("[[script: reply]] " + "hello " * 20)
    assert body(idle)["stop_reason"] == {"type": "end_turn"}
    assert kinds(talk).count("agent.message") == 1
    assert kinds(talk).count("session.error") == 1
    starts, ends = (kinds(talk).count(f"span.model_request_{k}") for k in ("start", "end"))
    assert starts == ends


async def test_a_request_that_fails_again_and_again_is_left_to_the_turns_own_attempts(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.agent_worker.provider.messages.conversation.LONGEST_WAIT", 0.01)
    talk = a_talk(place)
    await talk.open()
    async with talk.watching(fresh=True):
        idle = await talk.turn("[[script: retries_exhausted]] hello")
        assert body(idle)["stop_reason"] == {"type": "retries_exhausted"}
        assert talk.told[-1] == "turn.retrying"
        # The next attempt says it again, and the model sees it once.
        await talk.world.provider.send(talk.state, "[[script: reply]] hello", look=True)
        await talk.hear()
    messages = (await place.asked())[-1]["request"]["messages"]
    assert [len(message["content"]) for message in messages] == [1]


async def test_what_the_model_refuses_for_good_is_told_to_who_sends_it(place: Place) -> None:
    await place.faults(
        {"match": {"path": "/v1/messages$", "nth": 1}, "fault": {"kind": "respond", "status": 400}}
    )
    talk = a_talk(place)
    await talk.open()
    async with talk.watching(fresh=True):
        talk.ask("wrong") if talk.state.turn is None else None
        with pytest.raises(ProviderFailure) as refused:
            await talk.send("wrong")
        assert refused.value.final
        talk.state = replace(talk.state, turn=None, progress=None)
        idle = await talk.turn("[[script: reply]] right")
    assert body(idle)["stop_reason"] == {"type": "end_turn"}
    [message] = (await place.asked())[-1]["request"]["messages"]
    assert [block["text"] for block in message["content"]] == ["[[script: reply]] right"]


async def test_a_refusal_refuses_the_turn(place: Place) -> None:
    talk = a_talk(place)
    await talk.open()
    async with talk.watching(fresh=True):
        idle = await talk.turn("[[script: refusal]] please")
        assert body(idle)["stop_reason"] == {"type": "refusal"}
        assert "turn.refused" in talk.told
        await talk.turn("[[script: max_tokens]] please")
        assert body(talk.heard[-1])["stop_details"] == {"type": "max_tokens"}


async def test_a_long_conversation_stays_within_its_window_and_what_was_said_early_is_recalled() -> (
    None
):
    agent, turns = replace(AGENT, max_tokens=200), 500
    async with a_place(agent, window=3_000) as place:
        talk = a_talk(place)
        await talk.open()
        async with talk.watching(fresh=True):
            for number in range(turns):
                note = "[[note: the code is 4711]]" if number == 3 else ""
                await talk.turn(f"[[script: reply]] turn {number} {note}" + "so it goes " * 30)
        asked = await place.asked()
        assert {one["status"] for one in asked} == {200}
        assert max(sum(_prompt(one)) for one in asked) <= 3_000
        compactions = [e for e in talk.heard if e.type == "agent.thread_context_compacted"]
        assert len(compactions) > turns / 20
        assert all("4711" in body(one)["summary"] for one in compactions)
        last = [e for e in talk.heard if e.type == "agent.message"][-1]
        assert "4711" in body(last)["content"][0]["text"]
        assert kinds(talk).count("agent.message") == turns
        assert talk.state.length.compactions == len(compactions)


def _prompt(one: JSON) -> list[int]:
    usage = one["message"]["usage"]
    return [usage[f"{kind}input_tokens"] for kind in ("", "cache_read_", "cache_creation_")]


async def test_a_conversation_goes_on_in_another_one_with_what_was_said(place: Place) -> None:
    place.profiles.known["user_1"] = '{"language":"de"}'
    talk = a_talk(place)
    first = await talk.open()
    async with talk.watching(fresh=True):
        await talk.turn("[[script: reply]] remember 42")
    talk.state = replace(
        talk.state, provider_session_id=None, rotated_from=first.id, given_up=(first.id,)
    )
    second = await talk.open()
    assert second.id != first.id
    async with talk.watching(fresh=True):
        await talk.turn("[[script: reply]] what was it?")
    [message] = (await place.asked())[-1]["request"]["messages"]
    texts = [block["text"] for block in message["content"]]
    assert any("User: [[script: reply]] remember 42" in text for text in texts)
    assert texts[-1] == "[[script: reply]] what was it?"


async def test_a_conversation_is_opened_once_and_keeps_its_agent(place: Place) -> None:
    talk = a_talk(place)
    made = await talk.open()
    place.agents["support"] = replace(AGENT, model="claude-opus-5")
    again = await place.provider.open(replace(talk.state, provider_session_id=None), look=True)
    assert again == made
    assert len(place.store.kept) == 1


async def test_a_conversation_that_was_erased_is_lost(place: Place) -> None:
    talk = a_talk(place)
    made = await talk.open()
    await place.provider.close(made.id, erase=True)
    async with place.provider.watch(talk.state, fresh=False, on_preview=lambda raw: None) as feed:
        with pytest.raises(ProviderFailure) as lost:
            await feed.opened()
    assert lost.value.lost


async def test_what_this_runtime_has_not_is_refused_by_name(place: Place) -> None:
    talk = a_talk(place)
    talk.ask("hello")
    with pytest.raises(ProviderFailure, match="budget_usd") as refused:
        await place.provider.open(replace(talk.state, budget_usd=1.0), look=False)
    assert refused.value.final


async def test_a_database_that_is_away_for_a_moment_loses_nothing(place: Place) -> None:
    talk = a_talk(place)
    await talk.open()
    async with talk.watching(fresh=True):
        talk.ask("hi") if talk.state.turn is None else None
        place.store.down = 2
        idle = await talk.turn("[[script: reply]] hello")
    assert body(idle)["stop_reason"] == {"type": "end_turn"}
