"""Events of a session: history, log and live as one stream; pages; replay."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from services.gateway.event_stream import COMMENT, RETRY, message
from services.gateway.http import events as events_module
from services.gateway.http.replay import CHUNK, at_once, paced
from services.gateway.ports import Entry, StoredSession, Stretch
from services.gateway.streams import follow as follow_module
from services.gateway.streams import live as live_module
from services.gateway.streams.history import Hole
from services.gateway.streams.live import Live, read_heading
from shared.clock import utcnow
from shared.errors import Rejected, Transient
from tests.unit.gateway.desk import KEY, NOON, Desk, an_entry, an_event

pytestmark = pytest.mark.unit
EVENTS = "/v1/sessions/ses_1/events"


async def a_desk(*, archived: int = 0, logged: int = 0) -> Desk:
    """A session whose first events are archived and the later ones only on the log."""
    desk = Desk()
    await desk.open()
    every = [an_entry(seq) for seq in range(1, logged + 1)]
    desk.archive.entries[KEY] = every[:archived]
    desk.log.entries[KEY] = every
    shown(desk, last_seq=logged)
    return desk


def shown(desk: Desk, **what: Any) -> None:
    """The session's row shows this."""
    page = desk.read_model.rows[KEY].page
    desk.read_model.rows[KEY] = StoredSession(replace(page, view=replace(page.view, **what)))


async def test_live_events_are_streamed_as_they_come() -> None:
    desk = await a_desk()
    async with desk.stream(EVENTS) as stream:
        await stream.opened()
        desk.publish(1)
        record = await stream.record()
        assert record["id"] == "1"
        assert record["event"] == "agent.message"
        assert record["data"] == an_event(1).decode()
        desk.publish(2)
        assert await stream.seqs(1) == [2]
    assert desk.shares.open == 0


async def test_archive_log_and_live_are_joined_without_gap_or_repeat() -> None:
    desk = await a_desk(archived=4, logged=7)
    async with desk.stream(EVENTS) as stream:
        assert await stream.seqs(7) == [1, 2, 3, 4, 5, 6, 7]
        for seq in (6, 7, 8, 8, 9):  # a worker that says again what it had said
            desk.publish(seq)
        assert await stream.seqs(2) == [8, 9]


async def test_what_is_heard_during_the_history_is_not_lost() -> None:
    desk = await a_desk(archived=3, logged=3)
    stretches = desk.archive.stretches

    async def meanwhile(*what: Any) -> AsyncIterator[Stretch]:
        async for stretch in stretches(*what):
            if not desk.live.ring.newest(KEY):
                desk.publish(4)
                desk.publish(5)
            yield stretch

    desk.archive.stretches = meanwhile  # type: ignore[method-assign, assignment]
    async with desk.stream(EVENTS) as stream:
        assert await stream.seqs(5) == [1, 2, 3, 4, 5]


async def test_a_gap_in_the_live_feed_is_filled_from_the_log() -> None:
    desk = await a_desk()
    async with desk.stream(EVENTS) as stream:
        await stream.opened()
        desk.publish(1)
        desk.log.entries[KEY] += [an_entry(2), an_entry(3)]
        desk.publish(4)
        assert await stream.seqs(4) == [1, 2, 3, 4]


async def test_last_event_id_wins_over_after() -> None:
    desk = await a_desk(archived=9, logged=9)
    async with desk.stream(f"{EVENTS}?after=2", {"Last-Event-ID": "7"}) as stream:
        assert await stream.seqs(2) == [8, 9]
    async with desk.stream(f"{EVENTS}?after=5") as stream:
        assert await stream.seqs(4) == [6, 7, 8, 9]
    async with desk.client() as client:
        for headers in ({"Last-Event-ID": "x"}, {"Last-Event-ID": "-1"}, {"Last-Event-ID": "1.0"}):
            answer = await client.get(EVENTS, headers=headers)
            assert answer.status_code == 400
            assert answer.json()["errors"][0]["field"] == "Last-Event-ID"
        assert (await client.get(f"{EVENTS}?after=-1")).status_code == 400


async def test_a_slow_client_loses_its_queue_and_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "QUEUE_EVENTS", 5)
    desk = await a_desk()
    async with desk.stream(EVENTS) as stream:
        await stream.opened()
        desk.publish(1)
        assert await stream.seqs(1) == [1]
        stream.paused.clear()
        for seq in range(2, 40):
            desk.publish(seq)
            await asyncio.sleep(0)
        stream.paused.set()
        assert await stream.seqs(38) == list(range(2, 40))
        desk.publish(40)
        assert await stream.seqs(1) == [40]


async def test_without_archive_the_log_is_enough_and_without_both_a_page_is_a_503() -> None:
    desk = await a_desk(archived=3, logged=5)
    desk.archive.down = True
    async with desk.stream(EVENTS) as stream:
        assert await stream.seqs(5) == [1, 2, 3, 4, 5]
    desk.log.down = True
    async with desk.client() as client:
        answer = await client.get(EVENTS, headers={"Accept": "application/json"})
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
    assert desk.shares.open == 0


async def test_a_stream_is_200_while_parts_are_away_and_goes_on_when_they_are_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events_module, "AGAIN_SECONDS", 0.01)
    desk = await a_desk(archived=3, logged=5)
    desk.archive.down = desk.log.down = desk.read_model.down = True
    async with desk.stream(EVENTS) as stream:
        assert await stream.chunk() == RETRY
        assert stream.status == 200
        assert await stream.chunk() == COMMENT
        desk.archive.down = desk.log.down = desk.read_model.down = False
        assert await stream.seqs(5) == [1, 2, 3, 4, 5]


async def test_what_a_stream_could_not_know_while_parts_were_away_is_told_as_an_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events_module, "AGAIN_SECONDS", 0.01)
    desk = await a_desk(archived=1, logged=1)
    desk.read_model.down = True
    async with (
        desk.stream("/v1/sessions/ses_nope/events") as unknown,
        desk.stream(EVENTS, {"Last-Event-ID": "9"}) as ahead,
    ):
        assert await unknown.chunk() == RETRY
        assert await ahead.chunk() == RETRY
        desk.read_model.down = False
        record = await unknown.record()
        assert record["event"] == "error"
        assert json.loads(record["data"])["type"] == "urn:turnstile:problem:unknown_session"
        record = await ahead.record()
        assert json.loads(record["data"])["type"] == "urn:turnstile:problem:cursor_ahead"
        assert await ahead.record() == {}
        assert ahead.ended


async def test_a_cursor_ahead_of_the_newest_event_is_refused_and_names_it() -> None:
    desk = await a_desk(archived=4, logged=5)
    async with desk.client() as client:
        for headers in ({}, {"Accept": "application/json"}):
            answer = await client.get(EVENTS, headers={"Last-Event-ID": "5000", **headers})
            assert answer.status_code == 400
            assert answer.json()["type"] == "urn:turnstile:problem:cursor_ahead"
            assert answer.json()["last_seq"] == 5
        answer = await client.get(f"{EVENTS}?after=6")
        assert answer.json()["last_seq"] == 5
    assert desk.shares.open == 0


async def test_a_cursor_that_another_gateway_gave_is_found_in_the_archive_or_the_log() -> None:
    desk = await a_desk(archived=8, logged=9)
    shown(desk, last_seq=2)
    for last in ("8", "9"):
        async with desk.stream(EVENTS, {"Last-Event-ID": last}) as stream:
            await stream.opened()
            assert stream.status == 200
            desk.publish(int(last) + 1)
            assert await stream.seqs(1) == [int(last) + 1]
            desk.log.entries[KEY].pop()
            desk.live.ring.forget(KEY)


@pytest.mark.parametrize("text", ["9" * 5000, "१२", "1_0", "-1", "+5", "NaN", "1e3", " ", "٣"])
async def test_a_last_event_id_that_is_no_seq_is_a_400(text: str) -> None:
    with pytest.raises(Rejected) as caught:
        events_module.last_seen(text, 0)
    assert caught.value.field == "Last-Event-ID"


async def test_numbers_of_any_size_are_a_400_and_never_a_500() -> None:
    desk = await a_desk(archived=1, logged=1)
    large = "9" * 5000
    async with desk.client() as client:
        for path in (
            *(f"{EVENTS}?after={value}" for value in (large, "NaN", "-1", "inf", "%D9%A3")),
            *(f"{EVENTS}?limit={value}" for value in (large, "0", "1001", "x")),
            *(f"/v1/sessions/ses_1/replay?from_seq={value}" for value in (large, "0", "x")),
            *(f"/v1/sessions/ses_1/replay?speed={value}" for value in ("nan", "inf", "-1", large)),
            *(f"/v1/sessions/ses_1?at_seq={value}" for value in (large, "0", "-1", "2", "x")),
            f"/v1/sessions?cursor={large}",
            "/v1/sessions?cursor=WyJhXHUwMDAwIiwiYiJd",  # ["a\u0000","b"]
        ):
            answer = await client.get(path)
            assert answer.status_code == 400, path[:80]
            assert answer.json()["errors"], path[:80]


async def test_a_stream_ends_after_the_last_event_of_a_closed_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follow_module, "GOODBYE_SECONDS", 0.0)
    desk = await a_desk(archived=1, logged=1)
    async with desk.stream(EVENTS) as stream:
        assert await stream.seqs(1) == [1]
        desk.publish(2, type="session.archived", data={"reason": "requested"}, at=utcnow())
        assert await stream.seqs(1) == [2]
        desk.publish(3, type="session.status_terminated", at=utcnow())
        assert await stream.seqs(1) == [3]
        assert await stream.record() == {"event": "end", "data": "{}"}
        assert await stream.record() == {}
        assert stream.ended


async def test_a_closed_session_is_told_to_its_end_and_a_reconnect_there_is_a_204() -> None:
    desk = await a_desk(archived=3, logged=3)
    shown(desk, status="archived")
    async with desk.stream(EVENTS) as stream:
        assert await stream.seqs(3) == [1, 2, 3]
        assert await stream.record() == {"event": "end", "data": "{}"}
    async with desk.client() as client:
        assert (await client.get(EVENTS, headers={"Last-Event-ID": "3"})).status_code == 204
        replayed = "/v1/sessions/ses_1/replay?speed=0"
        assert (await client.get(replayed, headers={"Last-Event-ID": "3"})).status_code == 204
        rest = await client.get(replayed, headers={"Last-Event-ID": "2"})
        assert [line for line in rest.text.split("\n") if line.startswith("id:")] == ["id: 3"]
    assert desk.shares.open == 0


async def test_a_reconnect_before_the_row_says_that_the_session_is_closed_ends_once_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follow_module, "CLOSED_SECONDS", 0.0)
    desk = await a_desk(archived=3, logged=3)
    async with desk.stream(EVENTS, {"Last-Event-ID": "3"}) as stream:
        await stream.opened()
        shown(desk, status="archived")
        assert await stream.record() == {"event": "end", "data": "{}"}


async def test_a_closed_session_with_an_open_turn_is_listened_to() -> None:
    desk = await a_desk(archived=3, logged=3)
    shown(desk, status="archived", open_turn="turn_1")
    async with desk.stream(EVENTS, {"Last-Event-ID": "3"}) as stream:
        await stream.opened()
        desk.publish(4, type="turn.interrupted")
        assert await stream.seqs(1) == [4]


async def test_a_page_ends_with_the_event_that_fills_it(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = await a_desk(archived=9, logged=9)
    monkeypatch.setattr(events_module, "PAGE_BYTES", 3 * len(an_event(1)))
    async with desk.client() as client:
        headers = {"Accept": "application/json"}
        page = (await client.get(f"{EVENTS}?limit=1000", headers=headers)).json()
        assert [event["seq"] for event in page["data"]] == [1, 2, 3]
        assert page["next_after"] == 3
        monkeypatch.setattr(events_module, "PAGE_BYTES", 1)
        page = (await client.get(f"{EVENTS}?after=3", headers=headers)).json()
    assert [event["seq"] for event in page["data"]] == [4]


async def test_a_tenant_and_a_key_have_a_share_of_the_streams() -> None:
    desk = await a_desk()
    desk.shares.tenant = 1
    async with desk.stream(EVENTS) as stream:
        await stream.opened()
        async with desk.client("key-r") as client:
            answer = await client.get(EVENTS)
            assert answer.status_code == 429
            assert answer.headers["retry-after"]
            assert answer.json()["type"] == "urn:turnstile:problem:stream_share"
        async with desk.client("key-b") as other:
            assert (await other.get(EVENTS)).status_code == 404  # its own, and not full
        desk.shares.tenant, desk.shares.key = 9, 1
        async with desk.client() as client:
            assert (await client.get(EVENTS)).status_code == 429
            replayed = await client.get("/v1/sessions/ses_1/replay?speed=0")
            assert replayed.status_code == 429
    assert desk.shares.open == 0


async def test_a_stream_that_is_old_ends_cleanly() -> None:
    desk = await a_desk(archived=1, logged=1)
    desk.shares.max_age = 0.2
    async with desk.stream(EVENTS) as stream:
        assert await stream.seqs(1) == [1]
        assert await stream.record() == {}
        assert stream.ended
    assert desk.shares.open == 0


async def test_a_client_that_takes_nothing_is_cut_off() -> None:
    desk = await a_desk(archived=1, logged=1)
    desk.shares.stall = 0.05
    async with desk.stream(EVENTS) as stream:
        assert await stream.seqs(1) == [1]
        stream.paused.clear()
        desk.publish(2)
        await asyncio.wait_for(stream.aborted.wait(), 5)
    assert desk.shares.open == 0


async def test_the_ring_spares_the_log() -> None:
    desk = await a_desk(archived=2, logged=2)
    desk.publish(3)
    desk.publish(4)
    async with desk.stream(EVENTS) as stream:
        assert await stream.seqs(4) == [1, 2, 3, 4]
    assert desk.log.scans == 0


async def test_what_is_heard_at_once_goes_out_together_up_to_a_gap() -> None:
    desk = await a_desk()
    async with desk.stream(EVENTS) as stream:
        await stream.opened()
        for seq in (1, 2, 2, 4, 5):
            desk.publish(seq)
        assert await stream.chunk() == an_entry(1).record + an_entry(2).record
        desk.log.entries[KEY] += [an_entry(3)]
        assert await stream.seqs(3) == [3, 4, 5]


async def test_what_goes_out_together_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_module, "TOGETHER", 2 * len(an_event(1)))
    desk = await a_desk()
    async with desk.stream(EVENTS) as stream:
        await stream.opened()
        for seq in range(1, 6):
            desk.publish(seq)
        chunks = [await stream.chunk() or b"" for _ in range(3)]
    assert [chunk.count(b"id: ") for chunk in chunks] == [2, 2, 1]


async def test_previews_come_only_when_asked_for() -> None:
    desk = await a_desk()
    value = (
        b'{"tenant_id":"acme","session_id":"ses_1","type":"event_start","number":0,'
        b'"data":{"type":"event_start","event":{"type":"agent.message","id":"m"}}}'
    )
    async with desk.stream(f"{EVENTS}?previews=true") as stream, desk.stream(EVENTS) as plain:
        await stream.opened()
        await plain.opened()
        desk.live.preview(read_heading(value), value)
        desk.publish(1)
        assert await stream.record() == {"event": "event_start", "data": value.decode()}
        assert await stream.seqs(1) == [1]
        assert await plain.seqs(1) == [1]


async def test_events_come_in_pages_of_json() -> None:
    desk = await a_desk(archived=3, logged=5)
    headers = {"Accept": "application/json"}
    async with desk.client() as client:
        first = (await client.get(f"{EVENTS}?limit=2", headers=headers)).json()
        rest = (await client.get(f"{EVENTS}?after=2", headers=headers)).json()
        none = (await client.get(f"{EVENTS}?after=5", headers=headers)).json()
    assert [event["seq"] for event in first["data"]] == [1, 2]
    assert first["next_after"] == 2
    assert [event["seq"] for event in rest["data"]] == [3, 4, 5]
    assert none == {"data": [], "next_after": 5}


async def test_another_tenants_events_are_not_there() -> None:
    desk = await a_desk(archived=1, logged=1)
    async with desk.client("key-b") as client:
        assert (await client.get(EVENTS)).status_code == 404
        assert (await client.get("/v1/sessions/ses_1/replay")).status_code == 404


async def test_streams_are_bounded_and_end_when_the_gateway_stops() -> None:
    desk = await a_desk()
    desk.shares.total = 1
    async with desk.stream(EVENTS) as stream:
        await stream.opened()
        async with desk.client() as client:
            answer = await client.get(EVENTS)
        assert answer.status_code == 503
        assert answer.json()["type"] == "urn:turnstile:problem:too_many_streams"
        desk.closing.set()
        assert await stream.record() == {}
        assert stream.ended
    assert desk.shares.open == 0


async def test_replay_ends_with_end() -> None:
    desk = await a_desk(archived=5, logged=5)
    async with desk.client() as client:
        answer = await client.get("/v1/sessions/ses_1/replay?speed=0&from_seq=2&to_seq=4")
        ids = [line for line in answer.text.split("\n") if line.startswith("id:")]
        assert ids == ["id: 2", "id: 3", "id: 4"]
        assert answer.text.endswith("event: end\ndata: {}\n\n")
        for query in ("to_seq=6", "from_seq=0", "from_seq=7", "speed=-1", "speed=x", "speed=nan"):
            wrong = await client.get(f"/v1/sessions/ses_1/replay?{query}")
            assert wrong.status_code == 400, query


async def test_replay_keeps_the_recorded_pauses() -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def entries() -> AsyncIterator[Entry]:
        for seq, second in enumerate((0, 4, 2, 6, 46), 1):  # the third one came late
            yield an_entry(seq, at=NOON + timedelta(seconds=second))

    chunks = [chunk async for chunk in paced(entries(), 2.0, sleep)]
    assert pauses == [2.0, 1.0, 15.0, 5.0]
    assert [chunk.count(b"id:") for chunk in chunks] == [1, 2, 1, 0, 1]
    assert chunks[3] == COMMENT


async def test_a_replay_without_pauses_goes_out_in_large_pieces_and_whole() -> None:
    async def entries() -> AsyncIterator[Entry]:
        for seq in range(1, 2_001):
            yield an_entry(seq, at=NOON + timedelta(seconds=seq))

    chunks = [chunk async for chunk in at_once(entries())]
    size = len(b"".join(chunks)) // CHUNK
    assert size <= len(chunks) <= size + 2
    ids = [line for line in b"".join(chunks).splitlines() if line.startswith(b"id: ")]
    assert ids == [b"id: %d" % seq for seq in range(1, 2_001)]


async def test_a_replay_that_breaks_off_tells_what_was_read() -> None:
    async def entries() -> AsyncIterator[Entry]:
        for seq in (1, 2):
            yield an_entry(seq, at=NOON)
        raise Hole(KEY, 2, Transient("archive_unavailable", "it is away"))

    chunks = at_once(entries())
    assert (await anext(chunks)).count(b"id: ") == 2
    with pytest.raises(Hole):
        await anext(chunks)


def test_line_breaks_of_pretty_json_do_not_break_the_record() -> None:
    record = message("x", b'{\r\n  "a": "\\n"\n}', 1)
    assert record == b'id: 1\nevent: x\ndata: {    "a": "\\n" }\n\n'


def test_the_ring_keeps_the_newest() -> None:
    live = Live(ring_bytes=3 * len(an_event(1)))
    for seq in range(1, 8):
        value = an_event(seq)
        live.event(read_heading(value), value)
    assert [entry.seq for entry in live.ring.after(KEY, 0)] == [5, 6, 7]
    assert live.ring.newest(("acme", "ses_2")) == 0
