"""A reader may leave at any event and come back: it hears the rest, wherever that is kept by then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import httpx2
import pytest

from infra.clients.gateway import Received
from infra.simulator import reply_to
from tests.e2e.listening import assert_no_seam, from_each
from tests.e2e.tenants import ACME
from tests.e2e.waiting import eventually
from tests.e2e.world import World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
TOOLS = "look it up [[script: tools rounds=2]]"
HELD = "take your time [[script: tools rounds=2 hold=1]]"
PREVIEWS = {"event_start", "event_delta"}


async def test_a_stream_resumes_from_every_event_of_a_finished_turn(
    world: World, session_id: str
) -> None:
    last = await _finished(world, session_id, "turn-1")
    heard = await from_each(world.api, session_id, range(last), "turn-1")
    assert_no_seam(heard, await world.api.raw_events(session_id))


async def test_a_stream_from_the_end_of_one_turn_hears_only_the_next(
    world: World, session_id: str
) -> None:
    await _finished(world, session_id, "turn-1")
    page = await world.api.settled(session_id)

    async def next_turn() -> None:
        await world.api.say(session_id, "turn-2", "and now")

    heard = await from_each(world.api, session_id, [page["last_seq"]], "turn-2", next_turn)
    assert heard[page["last_seq"]][0].type == "turn.accepted"
    assert_no_seam(heard, await world.api.raw_events(session_id))


async def test_a_stream_resumes_from_every_event_in_the_middle_of_a_turn(
    world: World, session_id: str
) -> None:
    await world.api.open(session_id)
    release = await _held(world, session_id, "turn-1")
    so_far = (await world.api.session(session_id))["last_seq"]
    heard = await from_each(world.api, session_id, range(so_far + 1), "turn-1", release)
    assert_no_seam(heard, await world.api.raw_events(session_id))


async def test_a_stream_resumes_across_archive_log_and_live(world: World, session_id: str) -> None:
    """One turn is archived, the next only on Kafka, the third under way, and the gateway is new:
    it keeps nothing of all that in memory."""
    only_log = f"{session_id}-only-log"
    archived = await _finished(world, session_id, "turn-1")
    await world.archive.complete(ACME, session_id, archived)
    async with world.without("recorder", "gateway"):
        await world.api.say(session_id, "turn-2", TOOLS)
        await world.api.ended(session_id, "turn-2")
        logged = await _finished(world, only_log, "turn-1")
        await world.restart("gateway")
        release = await _held(world, session_id, "turn-3")
        so_far = (await world.api.session(session_id))["last_seq"]
        unseen = await from_each(world.api, only_log, range(logged), "turn-1")
        heard = await from_each(world.api, session_id, range(so_far + 1), "turn-3", release)
        assert_no_seam(unseen, await world.api.raw_events(only_log))
        assert_no_seam(heard, await world.api.raw_events(session_id))
        # So it was: nothing of this came from the archive.
        assert await world.archive.rows(ACME, only_log) == []
        rows = await world.archive.rows(ACME, session_id)
        assert archived <= len(rows) < so_far
    for name, stream in ((session_id, heard), (only_log, unseen)):
        page = await world.api.settled(name)
        stored = await world.archive.complete(ACME, name, page["last_seq"])
        assert [row.event_id for row in stored][: len(stream[0])] == [
            event.body["event_id"] for event in stream[0]
        ]


async def test_a_stream_resumes_out_of_the_archive_alone(world: World, session_id: str) -> None:
    """Neither the log nor a gateway that remembers."""
    last = await _finished(world, session_id, "turn-1")
    await world.archive.complete(ACME, session_id, last)
    before = await world.api.raw_events(session_id)
    async with world.without("kafka", "gateway"):
        world.stack.kill("gateway")
        await eventually(lambda: _lives(world), "a gateway without a log")
        heard = await from_each(world.api, session_id, range(last), "turn-1")
        assert_no_seam(heard, before)


async def test_previews_are_heard_and_never_kept(world: World, session_id: str) -> None:
    text = "think aloud [[script: reply pace=0.1]]"
    await world.api.open(session_id)
    heard: list[Received] = []
    # The provider shows one message in ten only in part, perhaps nothing of it.
    for number in range(1, 6):
        heard += await _listen(world, session_id, f"turn-{number}", text, heard)
        previews = [event for event in heard if event.seq is None]
        if {event.type for event in previews} == PREVIEWS:
            break
    assert {event.type for event in previews} == PREVIEWS
    deltas = [event.body["data"]["delta"] for event in previews if event.type == "event_delta"]
    spoken = [delta["content"]["text"] for delta in deltas if delta["content"]["type"] == "text"]
    assert spoken
    assert all(piece in reply_to(text) for piece in spoken), "previews are pieces of the reply"
    facts = {event.seq: [event] for event in heard if event.seq is not None}
    whole = await world.api.raw_events(session_id)
    assert_no_seam({0: [event for [event] in facts.values()]}, whole)
    page = await world.api.settled(session_id)
    await world.archive.complete(ACME, session_id, page["last_seq"])
    kept = await world.archive.count(
        "SELECT count() FROM session_events WHERE type IN ('event_start', 'event_delta')"
    )
    assert kept == 0


async def test_what_is_shown_of_a_message_is_a_beginning_of_it(
    world: World, session_id: str
) -> None:
    """Also where the provider cuts a character in two: half of an emoji in one delta, half in the next."""
    words = "🧭 où👩‍👩‍👧est 🎈🎈 la 回転扉? 🏁"
    await world.api.open(session_id)
    heard: list[Received] = []
    # The provider shows one message in ten only in part, perhaps nothing of it.
    for number in range(1, 9):
        text = f"{words} {number} [[script: reply pace=0.1 cut=1]]"
        heard += await _listen(world, session_id, f"turn-{number}", text, heard)
    messages = {
        event.body["event_id"]: [block["text"] for block in event.body["data"]["content"]]
        for event in heard
        if event.type == "agent.message"
    }
    shown = _shown(heard)
    for id, blocks in shown.items():
        *ended, last = blocks
        assert messages[id][: len(ended)] == ended
        assert messages[id][len(ended)].startswith(last), "a beginning, without holes"
    assert sum(blocks == messages[id] for id, blocks in shown.items()) >= 4


def _shown(said: list[Received]) -> dict[str, list[str]]:
    """By message, the text of each block that previews showed, in the order in which they came."""
    found: dict[str, list[str]] = {}
    for event in said:
        if event.type == "event_delta":
            delta = event.body["data"]["delta"]
            blocks = found.setdefault(event.body["data"]["event_id"], [])
            blocks += [""] * (delta["index"] + 1 - len(blocks))
            blocks[delta["index"]] += delta["content"]["text"]
    return found


async def _listen(
    world: World, session_id: str, turn_id: str, text: str, before: list[Received]
) -> list[Received]:
    """Play a turn; everything that a stream with previews brings after what was heard before."""
    heard: list[Received] = []
    last = max((event.seq or 0 for event in before), default=0)
    path = f"/v1/sessions/{session_id}/events?previews=true"
    async with asyncio.timeout(60), world.api.stream(path, last) as events:
        await world.api.say(session_id, turn_id, text)
        async for event in events:
            heard.append(event)
            if event.type == "turn.completed" and event.body["turn_id"] == turn_id:
                return heard
    raise AssertionError(f"the stream ended before {turn_id}")


async def _finished(world: World, session_id: str, turn_id: str) -> int:
    """Open the session and play a turn; the seq that ended it."""
    await world.api.open(session_id)
    await world.api.say(session_id, turn_id, TOOLS)
    await world.api.ended(session_id, turn_id)
    events = await world.api.events(session_id)
    return int(next(event["seq"] for event in events if event["type"] == "turn.completed"))


async def _lives(world: World) -> bool:
    try:
        answer = await world.api.http.get("/healthz")
    except httpx2.TransportError:
        return False
    return answer.status_code == 200


async def _held(
    world: World, session_id: str, turn_id: str
) -> Callable[[], Coroutine[None, None, None]]:
    """Begin a turn that stops before its last request; what lets it go on."""
    before = len(await world.api.events(session_id))
    await world.api.say(session_id, turn_id, HELD)

    async def stopped() -> bool:
        """Both rounds of tools are over."""
        new = await world.api.events(session_id, after=before)
        types = [str(event["type"]) for event in new]
        return types.count("span.model_request_end") == 2

    await eventually(stopped, f"{session_id} {turn_id} in its middle")
    [session] = await world.provider.of(ACME, session_id)

    async def release() -> None:
        await world.provider.release(session)

    return release
