"""The simulator's `/v1/messages` by the real SDK: what it answers, streams, charges and refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx2
import msgspec
import pytest
from anthropic import AsyncAnthropic

from infra.simulator import reply_to
from infra.simulator.server import running
from infra.simulator.settings import Settings

pytestmark = pytest.mark.contract
MODEL = "claude-opus-5-5"
OLD = "claude-haiku-4-5-20251001"
LOOKUP = {
    "name": "lookup",
    "description": "Looks something up.",
    "input_schema": {
        "type": "object",
        "properties": {"query": {"type": "string"}},
        "required": ["query"],
    },
}
JSON = dict[str, Any]


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with running(Settings(port=0)) as address:
        yield address


@pytest.fixture
async def client(url: str) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(api_key="key", base_url=url, max_retries=0, timeout=30) as client:
        yield client


def user(*blocks: str | JSON) -> JSON:
    content = [{"type": "text", "text": b} if isinstance(b, str) else b for b in blocks]
    return {"role": "user", "content": content}


def result(ident: str, text: str = "42", **more: Any) -> JSON:
    return {"type": "tool_result", "tool_use_id": ident, "content": text, **more}


async def ask(client: AsyncAnthropic, *messages: Any, **more: Any) -> Any:
    """One message in one piece."""
    return await client.messages.create(
        **{"model": MODEL, "max_tokens": 1_000, "messages": messages, **more}
    )


async def refused(client: AsyncAnthropic, *messages: Any, **more: Any) -> str:
    """The words of a 400."""
    with pytest.raises(anthropic.BadRequestError) as caught:
        await ask(client, *messages, **more)
    assert caught.value.type == "invalid_request_error"
    return str(caught.value.body)


def texts(message: Any) -> str:
    return "\n".join(block.text for block in message.content if block.type == "text")


def calls(message: Any) -> list[str]:
    return [block.id for block in message.content if block.type == "tool_use"]


async def through(client: AsyncAnthropic, prompt: str, **more: Any) -> tuple[list[Any], list[Any]]:
    """A turn played to its end: the answers, and the messages that were sent at last."""
    messages: list[Any] = [user(prompt)]
    answers: list[Any] = []
    while True:
        answers.append(await ask(client, *messages, **more))
        messages.append(answers[-1].to_param())
        if answers[-1].stop_reason != "tool_use":
            return answers, messages
        messages.append(user(*(result(ident) for ident in calls(answers[-1]))))


async def faults(url: str, *rules: JSON) -> None:
    async with httpx2.AsyncClient() as http:
        answer = await http.post(
            f"{url}/_sim/faults", content=msgspec.json.encode({"rules": rules})
        )
    assert answer.status_code == 200


async def log(url: str) -> list[JSON]:
    async with httpx2.AsyncClient() as http:
        found: list[JSON] = (await http.get(f"{url}/_sim/messages")).json()["data"]
    return found


async def test_a_reply_is_that_of_the_prompt(client: AsyncAnthropic) -> None:
    answer = await ask(client, user("[[script: reply]] hello"))
    assert texts(answer) == reply_to("[[script: reply]] hello")
    assert (answer.stop_reason, answer.role, answer.model) == ("end_turn", "assistant", MODEL)
    assert answer.usage.output_tokens > 0


async def test_a_stream_says_what_the_whole_message_says(client: AsyncAnthropic) -> None:
    asked: JSON = {"model": MODEL, "max_tokens": 1_000, "tools": [LOOKUP]}
    messages: Any = [user("[[script: custom_tool calls=2]] look it up")]
    async with client.messages.stream(messages=messages, **asked) as stream:
        kinds = [event.type async for event in stream]
        streamed: Any = await stream.get_final_message()
    whole: Any = await client.messages.create(messages=messages, **asked)
    assert [b.type for b in streamed.content] == ["thinking", "tool_use", "tool_use"]
    assert [b.type for b in whole.content] == ["thinking", "tool_use", "tool_use"]
    assert streamed.stop_reason == whole.stop_reason == "tool_use"
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    assert streamed.content[1].input == whole.content[1].input == {"query": "item 0"}
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"


async def test_a_turn_with_tools_ends_after_its_rounds(client: AsyncAnthropic) -> None:
    prompt = "[[script: custom_tool rounds=3 calls=2]] go"
    answers, _ = await through(client, prompt, tools=[LOOKUP])
    assert [answer.stop_reason for answer in answers] == ["tool_use"] * 3 + ["end_turn"]
    assert texts(answers[-1]) == reply_to(prompt)
    assert len({ident for answer in answers for ident in calls(answer)}) == 6


async def test_tools_that_are_not_offered_are_not_called(client: AsyncAnthropic) -> None:
    answer = await ask(client, user("[[script: tools]] go"))
    assert answer.stop_reason == "end_turn"
    none = await ask(
        client, user("[[script: tools]] go"), tools=[LOOKUP], tool_choice={"type": "none"}
    )
    assert calls(none) == []


async def test_one_call_at_a_time_where_the_client_wants_it(client: AsyncAnthropic) -> None:
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    prompt = user("[[script: custom_tool calls=3]] go")
    assert len(calls(await ask(client, prompt, tools=[LOOKUP], tool_choice=choice))) == 1


async def test_a_forced_tool_is_called_and_newer_models_refuse_it(client: AsyncAnthropic) -> None:
    choice = {"type": "tool", "name": "lookup"}
    answer = await ask(client, user("hello"), model=OLD, tools=[LOOKUP], tool_choice=choice)
    assert [block.name for block in answer.content] == ["lookup"]
    words = await refused(client, user("hello"), tools=[LOOKUP], tool_choice=choice)
    assert "forced tool use" in words


async def test_a_refusal_an_answer_cut_short_and_a_paused_turn(client: AsyncAnthropic) -> None:
    refusal = await ask(client, user("[[script: refusal]] please"))
    assert (refusal.stop_reason, refusal.stop_details.type) == ("refusal", "refusal")
    cut = await ask(client, user("[[script: max_tokens]] please"))
    assert cut.stop_reason == "max_tokens"
    assert reply_to("[[script: max_tokens]] please").startswith(texts(cut))
    search = {"type": "web_search_20250305", "name": "web_search"}
    prompt = user("[[script: pause_turn rounds=2]] search")
    paused = await ask(client, prompt, tools=[search])
    assert (paused.stop_reason, paused.content[-1].type) == ("pause_turn", "server_tool_use")
    again = await ask(client, prompt, paused.to_param(), tools=[search])
    assert (again.stop_reason, again.content[0].type) == ("pause_turn", "web_search_tool_result")
    last = await ask(client, prompt, paused.to_param(), again.to_param(), tools=[search])
    assert last.stop_reason == "end_turn"
    assert last.usage.server_tool_use.web_search_requests == 1


async def test_an_answer_is_never_longer_than_max_tokens(client: AsyncAnthropic) -> None:
    answer = await ask(client, user("[[script: reply]] hello"), max_tokens=5, model=OLD)
    assert (answer.stop_reason, answer.usage.output_tokens) == ("max_tokens", 5)
    stopped = await ask(client, user("[[script: reply]] hello"), stop_sequences=["\nyou began"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "\nyou began")


async def test_every_call_is_answered_once_at_the_start_of_the_next_message(
    client: AsyncAnthropic,
) -> None:
    prompt = user("[[script: custom_tool calls=2]] go")
    answer = await ask(client, prompt, tools=[LOOKUP])
    first, second = calls(answer)
    asked = (prompt, answer.to_param())
    for wrong, words in (
        (user(result(first)), "without `tool_result` blocks immediately after"),
        (user("first a word", result(first), result(second)), "immediately after"),
        (user(result(first), result(second), result("toolu_other")), "unexpected `tool_use_id`"),
        (user(result(first), result(first), result(second)), "single result"),
    ):
        assert words in await refused(client, *asked, wrong, tools=[LOOKUP])
    done = await ask(client, *asked, user(result(first), result(second)), tools=[LOOKUP])
    assert done.stop_reason == "end_turn"


@pytest.mark.parametrize(
    ("messages", "more", "words"),
    [
        ([], {}, "messages"),
        ([{"role": "assistant", "content": "hi"}], {}, "first message must use"),
        ([user("hi"), {"role": "assistant", "content": "so"}], {}, "prefill"),
        ([user(" \n")], {}, "non-whitespace"),
        ([{"role": "user", "content": ""}], {}, "non-empty"),
        ([{"role": "user", "content": []}], {}, "non-empty"),
        ([user("hi")], {"max_tokens": 64_001}, "64001 > 64000"),
        ([user("hi")], {"max_tokens": -1}, "max_tokens"),
        ([user("hi")], {"extra_body": {"temperature": 0.5}}, "temperature"),
        ([user("hi")], {"thinking": {"type": "disabled"}}, "thinking.type.disabled"),
        ([user("hi")], {"tools": [LOOKUP, LOOKUP]}, "unique"),
        ([user("hi")], {"tools": [{"name": "a b", "input_schema": {}}]}, "tools.0"),
        ([user("hi")], {"tool_choice": {"type": "auto"}}, "tool_choice"),
        ([user("hi"), {"role": "system", "content": "x"}], {}, "role"),
    ],
)  # fmt: skip
async def test_a_request_that_no_model_could_read_is_refused(
    client: AsyncAnthropic, messages: list[Any], more: JSON, words: str
) -> None:
    assert words in await refused(client, *messages, **more)


async def test_a_model_that_is_not_there_or_retired_is_404(client: AsyncAnthropic) -> None:
    for model in ("claude-none", "claude-sonnet-4-5-20250929"):
        with pytest.raises(anthropic.NotFoundError, match=model):
            await ask(client, user("hi"), model=model)


async def test_thinking_is_bound_to_what_came_before_it(client: AsyncAnthropic) -> None:
    prompt = "[[script: custom_tool]] go"
    _, messages = await through(client, prompt, tools=[LOOKUP])
    more = user("[[script: reply]] and now?")
    assert (await ask(client, *messages, more, tools=[LOOKUP])).stop_reason == "end_turn"
    changed = [user(prompt + "!"), *messages[1:]]
    assert "different conversation" in await refused(client, *changed, more, tools=[LOOKUP])
    other_tools = [LOOKUP, {**LOOKUP, "name": "other"}]
    assert "different conversation" in await refused(client, *messages, more, tools=other_tools)
    bare = [
        {**m, "content": [b for b in m["content"] if getattr(b, "type", "") != "thinking"]}
        for m in changed
    ]
    assert (await ask(client, *bare, more, tools=[LOOKUP])).stop_reason == "end_turn"


async def test_thinking_that_was_changed_is_refused_and_that_of_another_model_not_read(
    client: AsyncAnthropic,
) -> None:
    prompt = user("[[script: custom_tool]] go")
    answer = await ask(client, prompt, tools=[LOOKUP])
    block, call = answer.content
    forged = {**block.to_dict(), "thinking": "something else"}
    said = {"role": "assistant", "content": [forged, call]}
    done = user(result(call.id))
    assert "Invalid `signature`" in await refused(client, prompt, said, done, tools=[LOOKUP])
    there = await ask(client, prompt, answer.to_param(), done, tools=[LOOKUP])
    elsewhere = await ask(
        client, prompt, answer.to_param(), done, tools=[LOOKUP], model="claude-sonnet-5-5"
    )
    assert elsewhere.usage.input_tokens < there.usage.input_tokens


async def test_the_cache_reads_what_was_written_and_only_that(client: AsyncAnthropic) -> None:
    mark = {"type": "ephemeral"}
    system = [{"type": "text", "text": "x" * 8_000, "cache_control": mark}]
    first = await ask(client, user("one"), system=system)
    assert first.usage.cache_creation_input_tokens == 2_000
    assert first.usage.cache_creation.ephemeral_5m_input_tokens == 2_000
    second = await ask(client, user("another"), system=system)
    assert (second.usage.cache_read_input_tokens, second.usage.cache_creation_input_tokens) == (
        2_000,
        0,
    )
    other = await ask(client, user("one"), system=[{**system[0], "text": "y" * 8_000}])
    assert other.usage.cache_read_input_tokens == 0
    short = await ask(client, user("one"), system=[{**system[0], "text": "x" * 400}])
    assert short.usage.cache_creation_input_tokens == 0


async def test_a_growing_conversation_is_read_from_the_cache(client: AsyncAnthropic) -> None:
    messages: list[Any] = [user("[[script: reply]] " + "long " * 1_500)]
    written = 0
    for turn in range(4):
        answer = await ask(client, *messages, cache_control={"type": "ephemeral"})
        assert answer.usage.cache_read_input_tokens == written
        written += answer.usage.cache_creation_input_tokens
        messages += [answer.to_param(), user(f"[[script: reply]] turn {turn}")]


async def test_at_most_four_marks_the_long_ones_first(client: AsyncAnthropic) -> None:
    marked = [
        {"type": "text", "text": f"part {n}", "cache_control": {"type": "ephemeral"}}
        for n in range(5)
    ]
    assert "maximum of 4 blocks" in await refused(client, user(*marked))
    late = {**marked[0], "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    assert "must not come after" in await refused(client, user(marked[1], late))
    assert (await ask(client, user(*marked[:4]))).stop_reason


async def test_what_is_counted_is_what_is_charged(client: AsyncAnthropic) -> None:
    asked: JSON = {
        "model": MODEL,
        "system": "Be brief.",
        "tools": [LOOKUP],
        "messages": [user("[[script: custom_tool]] go")],
    }
    counted = await client.messages.count_tokens(**asked)
    answer = await client.messages.create(max_tokens=100, **asked)
    assert counted.input_tokens == answer.usage.input_tokens
    with pytest.raises(anthropic.BadRequestError, match="first message"):
        await client.messages.count_tokens(
            model=MODEL, messages=[{"role": "assistant", "content": "hi"}]
        )


async def test_a_prompt_beyond_the_window_is_too_long() -> None:
    async with (
        running(Settings(port=0, window=1_000)) as url,
        AsyncAnthropic(api_key="key", base_url=url, max_retries=0, timeout=30) as client,
    ):
        assert (await client.models.retrieve(MODEL)).max_input_tokens == 1_000
        words = await refused(client, user("x" * 4_004))
        assert "prompt is too long: 1001 tokens > 1000 maximum" in words
        full = await ask(client, user("[[script: reply]] " + "x" * 3_960))
        assert full.stop_reason == "model_context_window_exceeded"


async def test_failures_of_a_script_come_first_and_pass(client: AsyncAnthropic) -> None:
    prompt = user("[[script: error_retrying errors=1]] go")
    with pytest.raises(anthropic.RateLimitError) as limited:
        await ask(client, prompt)
    assert limited.value.response.headers["retry-after"] == "1"
    assert (await ask(client, prompt)).stop_reason == "end_turn"
    dead = user("[[script: retries_exhausted errors=1]] go")
    for _ in range(3):
        with pytest.raises(anthropic.APIStatusError) as busy:
            await ask(client, dead)
        assert (busy.value.status_code, busy.value.type) == (529, "overloaded_error")
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        await ask(client, user("[[script: terminal]] go"))


async def test_a_stream_breaks_where_a_rule_says_so(client: AsyncAnthropic, url: str) -> None:
    prompt: Any = [user("[[script: reply]] hello")]
    path = {"path": "/v1/messages$"}
    for fault, error in (
        ({"kind": "error_event", "after": 4}, anthropic.APIStatusError),
        ({"kind": "truncate", "after": 4}, httpx2.HTTPError),
        ({"kind": "reset", "after": 4}, httpx2.HTTPError),
        ({"kind": "respond", "status": 500}, anthropic.InternalServerError),
    ):
        await faults(url, {"match": {**path, "nth": 1}, "fault": fault})
        with pytest.raises(error):
            async with client.messages.stream(
                model=MODEL, max_tokens=100, messages=prompt
            ) as stream:
                await stream.get_final_message()
    await faults(url, {"match": {**path, "nth": 1}, "fault": {"kind": "cut", "after": 4}})
    async with client.messages.stream(model=MODEL, max_tokens=100, messages=prompt) as stream:
        kinds = [event.type async for event in stream]
    assert "message_stop" not in kinds


async def test_every_request_is_in_the_log(client: AsyncAnthropic, url: str) -> None:
    await ask(client, user("[[script: reply]] hello"), metadata={"user_id": "u-1"})
    await refused(client, user(" "))
    await client.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "hi"}])
    answered, wrong, counted = await log(url)
    assert answered["request"]["metadata"] == {"user_id": "u-1"}
    assert (answered["status"], answered["finished"]) == (200, True)
    assert answered["message"]["stop_reason"] == "end_turn"
    assert (wrong["status"], wrong["message"]) == (400, None)
    assert "non-whitespace" in wrong["error"]
    assert counted["path"] == "/v1/messages/count_tokens"


async def test_an_answer_that_nobody_read_to_its_end_is_not_finished(
    client: AsyncAnthropic, url: str
) -> None:
    prompt: Any = [user("[[script: reply pace=40]] " + "hello " * 10)]
    async with client.messages.stream(model=OLD, max_tokens=100, messages=prompt) as stream:
        await anext(aiter(stream))
    (seen,) = await log(url)
    assert (seen["status"], seen["finished"]) == (200, False)
    assert seen["message"]["usage"]["output_tokens"] > 0


async def test_a_held_answer_waits_until_it_is_released(client: AsyncAnthropic, url: str) -> None:
    asking = asyncio.create_task(ask(client, user("[[script: reply hold=1]] hello")))
    async with asyncio.timeout(10):
        while not await log(url):  # noqa: ASYNC110 - polled until the deadline
            await asyncio.sleep(0.01)
    assert not asking.done()
    async with httpx2.AsyncClient() as http:
        await http.post(f"{url}/_sim/messages/release")
    assert (await asking).stop_reason == "end_turn"


async def test_one_seed_gives_the_same_answers_to_the_same_requests() -> None:
    async def played() -> list[Any]:
        async with (
            running(Settings(port=0, seed=7)) as url,
            AsyncAnthropic(api_key="key", base_url=url, max_retries=0, timeout=30) as client,
        ):
            answers, _ = await through(client, "[[script: custom_tool calls=3]] go", tools=[LOOKUP])
            return [answer.to_dict() for answer in answers]

    assert await played() == await played()


async def test_text_between_calls_comes_as_thinking_on_the_newest_models(
    client: AsyncAnthropic,
) -> None:
    prompt = user("[[script: confirm]] go")
    newest = await ask(client, prompt, tools=[LOOKUP])
    assert texts(newest) == ""
    older = await ask(client, prompt, tools=[LOOKUP], model="claude-opus-5")
    assert texts(older) == "I need your permission first."
