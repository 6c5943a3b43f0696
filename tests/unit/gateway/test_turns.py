"""POST and GET of turns over HTTP, on memory ports."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from services.gateway.gate import Gate
from services.gateway.ids import fresh
from services.gateway.ports import StoredTurn, TurnKey
from services.gateway.register import Known
from services.gateway.views import TurnView
from shared.bus.brake import is_gateways
from shared.session.inputs import TurnRequested, read_request
from tests.unit.gateway.desk import KEY, Desk

pytestmark = pytest.mark.unit
TURNS = "/v1/sessions/ses_1/turns"
BLANK = {"type": "text", "text": " \n"}
DEEP = b'{"content":[{"deep":%b,"type":"text","text":"a"}]}' % (b"[" * 100_000 + b"]" * 100_000)


async def test_an_outcome_is_published_in_place_of_a_content() -> None:
    desk = Desk()
    await desk.open()
    wanted = {"description": "a page", "rubric": {"type": "text", "content": "one page"}}
    async with desk.client() as client:
        answer = await client.post(TURNS, json={"outcome": wanted})
    assert answer.status_code == 202
    _, value = desk.inputs.published[-1]
    assert msgspec.json.decode(value)["outcome"] == wanted
    assert b'content":' not in value.replace(b'"content":"one page"', b"")


async def test_a_turn_is_accepted_once_the_log_has_it() -> None:
    desk = Desk()
    await desk.open()
    async with desk.client() as client:
        answer = await client.post(TURNS, json={"content": "hello", "on_busy": "interrupt"})
    assert answer.status_code == 202
    body = answer.json()
    assert body == {"turn_id": body["turn_id"], "session_id": "ses_1", "status": "accepted"}
    envelope, value = desk.inputs.published[-1]
    request = read_request(envelope.type, value)
    assert isinstance(request, TurnRequested)
    assert (request.tenant_id, request.session_id, request.user_id) == ("acme", "ses_1", "u1")
    assert (request.content, request.on_busy) == ("hello", "interrupt")
    assert (envelope.type, envelope.subject) == ("turn.requested", "ses_1")
    assert request.at == envelope.time == "2026-11-21T12:00:00.000000Z"


async def test_what_the_gateway_publishes_counts_as_its_own_at_the_brake() -> None:
    desk = Desk()
    await desk.open()
    async with desk.client() as client:
        await client.post(TURNS, json={"content": "a"}, headers={"Idempotency-Key": "7"})
        await client.post(TURNS, json={"content": "a", "turn_id": "t1"})
        await client.post("/v1/sessions/ses_1/interrupt", headers={"Idempotency-Key": "7"})
    published = [envelope for envelope, _ in desk.inputs.published]
    assert len(published) == 4
    made = replace(published[0], id=fresh("in_"))
    assert all(is_gateways(envelope.headers()) for envelope in [*published, made])


async def test_an_accepted_turn_is_read_at_once() -> None:
    desk = Desk()
    await desk.open()
    async with desk.client() as client:
        await client.post(TURNS, json={"content": "hello", "turn_id": "t1"})
        turn = (await client.get(f"{TURNS}/t1")).json()
        assert (turn["turn_id"], turn["status"], turn["reply"]) == ("t1", "accepted", None)
        desk.read_model.down = True
        assert (await client.get(f"{TURNS}/t1")).status_code == 200
        assert (await client.get(f"{TURNS}/t2")).status_code == 503


async def test_the_same_key_is_the_same_turn_and_is_published_once() -> None:
    desk = Desk()
    await desk.open()
    headers = {"Idempotency-Key": "order 7"}
    async with desk.client() as client:
        first = await client.post(TURNS, json={"content": "a"}, headers=headers)
        again = await client.post(TURNS, json={"content": "b"}, headers=headers)
        other = await client.post(TURNS, json={"content": "a"}, headers={"Idempotency-Key": "8"})
    assert first.json() == again.json() != other.json()
    kinds = [envelope.type for envelope, _ in desk.inputs.published]
    assert kinds == ["session.requested", "turn.requested", "turn.requested"]


@pytest.mark.parametrize("then", [None, "t2"])
@pytest.mark.parametrize("first", [None, "t1"])
async def test_under_one_key_the_first_requests_turn_is_the_turn(
    first: str | None, then: str | None
) -> None:
    """Here, at a gateway that knows nothing by heart, and after the turn is long over."""
    desk = Desk()
    await desk.open()
    told = [await keyed_turn_at(desk, "k", turn_id) for turn_id in (first, then, first)]
    other = Desk(inputs=desk.inputs, read_model=desk.read_model)
    told += [await keyed_turn_at(other, "k", turn_id) for turn_id in (then, None)]
    assert set(told) == {first or told[0]}
    assert await keyed_turn_at(desk, "other key", "t3") == "t3"
    turns = [
        read_request(envelope.type, value)
        for envelope, value in desk.inputs.published
        if envelope.type == "turn.requested"
    ]
    assert {turn.turn_id for turn in turns} == {told[0], "t3"}  # type: ignore[attr-defined]


async def test_requests_that_race_under_one_key_are_one_turn() -> None:
    desks = [Desk()]
    await desks[0].open()
    desks += [Desk(inputs=desks[0].inputs, read_model=desks[0].read_model) for _ in range(2)]
    wanted = [None, "t1", "t2", None, "t3", "t1", "t4"]
    told = await asyncio.gather(
        *(keyed_turn_at(desk, "k", turn_id) for turn_id in wanted for desk in desks)
    )
    assert len(set(told)) == 1


async def test_a_key_names_requests_of_its_own_session() -> None:
    desk = Desk()
    for session_id in ("ses_1", "ses_2"):
        await desk.open(session_id)
    assert await keyed_turn_at(desk, "k", "t1") == "t1"
    assert await keyed_turn_at(desk, "k", "t2", "ses_2") == "t2"


async def test_without_the_database_a_key_that_is_not_known_here_waits() -> None:
    """Another gateway may know it: nothing is published under an id that may be the second one."""
    desk = Desk()
    await desk.open()
    assert await keyed_turn_at(desk, "known", "t1") == "t1"
    desk.read_model.down = True
    assert await keyed_turn_at(desk, "known", None) == "t1"
    published = len(desk.inputs.published)
    async with desk.client() as client:
        headers = {"Idempotency-Key": "new"}
        answer = await client.post(TURNS, json={"content": "a"}, headers=headers)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert len(desk.inputs.published) == published
        assert (await client.post(TURNS, json={"content": "a"})).status_code == 202
    desk.read_model.down = False
    assert await keyed_turn_at(desk, "new", "t2") == "t2"


async def test_a_key_of_a_closed_session_is_known_still() -> None:
    desk = Desk()
    await desk.open()
    assert await keyed_turn_at(desk, "k", "t1") == "t1"
    async with desk.client() as client:
        assert (await client.post("/v1/sessions/ses_1/archive")).status_code == 202
    another = Desk(read_model=desk.read_model)
    another.register.meet(KEY, Known(user_id="u1", closed="archive"))
    for projected in (False, True):
        if projected:
            await desk.project()
        for gateway in (desk, another):
            assert await keyed_turn_at(gateway, "k", "t2") == "t1"
    async with another.client() as client:
        headers = {"Idempotency-Key": "new"}
        for _ in range(2):
            refused = await client.post(TURNS, json={"content": "a"}, headers=headers)
            assert refused.status_code == 409
    ids = {e.id for e, _ in another.inputs.published} - {e.id for e, _ in desk.inputs.published}
    assert not ids


async def keyed_turn_at(
    desk: Desk, key: str, turn_id: str | None, session_id: str = "ses_1"
) -> str:
    body = {"content": "a", **({"turn_id": turn_id} if turn_id else {})}
    path, headers = f"/v1/sessions/{session_id}/turns", {"Idempotency-Key": key}
    async with desk.client() as client:
        answer = await client.post(path, json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    told: str = answer.json()["turn_id"]
    return told


async def test_a_turn_published_twice_by_two_gateways_has_one_input_id() -> None:
    ids = []
    for _ in range(2):
        desk = Desk()
        await desk.open()
        async with desk.client() as client:
            await client.post(TURNS, json={"content": "a", "turn_id": "t1"})
        ids.append(desk.inputs.published[-1][0].id)
    assert ids[0] == ids[1]


async def test_without_an_acknowledgement_there_is_no_turn() -> None:
    desk = Desk()
    await desk.open()
    desk.inputs.down = True
    async with desk.client() as client:
        answer = await client.post(TURNS, json={"content": "a", "turn_id": "t1"})
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["type"] == "urn:turnstile:problem:kafka_unavailable"
        assert (await client.get(f"{TURNS}/t1")).status_code == 404
        desk.inputs.down = False
        assert (await client.post(TURNS, json={"content": "a", "turn_id": "t1"})).status_code == 202


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "content"),
        ({"content": ""}, "content"),
        ({"content": " \n\t\u3000"}, "content"),
        ({"content": 7}, "content"),
        ({"content": None}, "content"),
        ({"content": []}, "content"),
        ({"content": [BLANK]}, "content"),
        ({"content": [{"type": "text", "text": ""}]}, "content[0].text"),
        ({"content": [{"type": "text", "text": "a"}, BLANK]}, "content[1].text"),
        ({"content": [{"type": "video"}]}, "content[0].type"),
        ({"content": [{"type": "image", "source": {"type": "url"}}]}, "content[0].source.url"),
        ({"content": [{"type": "text", "text": "a", "x": 1}]}, "content[0].x"),
        ({"content": "a", "turn_id": "a b"}, "turn_id"),
        ({"content": "a", "turn_id": "t\n"}, "turn_id"),
        ({"content": "a", "turn_id": "a" * 129}, "turn_id"),
        ({"content": "a", "turn_id": 1}, "turn_id"),
        ({"content": "a", "on_busy": "wait"}, "on_busy"),
        ({"content": "a", "contnet": "b"}, "contnet"),
        (["content"], "body"),
    ],
)
async def test_a_wrong_body_is_named(body: Any, field: str) -> None:
    desk = Desk()
    await desk.open()
    async with desk.client() as client:
        answer = await client.post(TURNS, json=body)
        assert answer.status_code == 400, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert [error["field"] for error in answer.json()["errors"]] == [field]
        assert len(desk.inputs.published) == 1
        assert (await client.post(TURNS, json={"content": "fine"})).status_code == 202


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"\xff\xfe", b'{"content": "\xff"}', b'{"content":"\\ud800"}', DEEP]
)
async def test_bytes_that_are_no_json_are_refused(raw: bytes) -> None:
    desk = Desk()
    await desk.open()
    async with desk.client() as client:
        answer = await client.post(TURNS, content=raw)
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:turnstile:problem:invalid_request"


@pytest.mark.parametrize(
    "block",
    [
        {"type": "text", "text": "hello"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aa=="}},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {
            "type": "document",
            "source": {"type": "url", "url": "https://x.test/a.pdf"},
            "title": "A",
        },
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "words"},
            "context": "c",
        },
    ],
)
async def test_blocks_reach_the_log_as_they_were_sent(block: dict[str, Any]) -> None:
    desk = Desk()
    await desk.open()
    async with desk.client() as client:
        answer = await client.post(TURNS, json={"content": [block]})
    assert answer.status_code == 202, answer.text
    assert msgspec.json.decode(desk.inputs.published[-1][1])["content"] == [block]


@pytest.mark.parametrize("key", ["", "a" * 256, "ä", "a\tb"])
async def test_a_wrong_key_is_named(key: str) -> None:
    desk = Desk()
    await desk.open()
    async with desk.client() as client:
        headers = [(b"Idempotency-Key", key.encode("latin-1"))]
        answer = await client.post(TURNS, json={"content": "a"}, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"


async def test_a_body_of_more_than_a_mebibyte_is_refused_unread() -> None:
    desk = Desk()
    await desk.open()
    asked = 0

    async def chunks() -> Any:
        nonlocal asked
        for _ in range(64):
            asked += 1
            yield b"x" * 65536

    async with desk.client() as client:
        whole = await client.post(TURNS, content=b"x" * (1024 * 1024 + 1))
        assert whole.status_code == 413
        assert whole.json()["type"] == "urn:turnstile:problem:too_large"
        assert [error["field"] for error in whole.json()["errors"]] == ["content"]
        assert (await client.post(TURNS, content=chunks())).status_code == 413
        assert asked == 17
        fits = b'{"content":"%b"}' % (b"x" * (1024 * 1024 - 14))
        assert (await client.post(TURNS, content=fits)).status_code == 202


async def test_a_turn_needs_a_session_of_its_caller() -> None:
    desk = Desk()
    await desk.open()
    async with desk.client() as client:
        unknown = await client.post("/v1/sessions/ses_9/turns", json={"content": "a"})
        bad = await client.post("/v1/sessions/a%20b/turns", json={"content": "a"})
    async with desk.client("key-b") as client:
        foreign = await client.post(TURNS, json={"content": "a"})
    assert unknown.status_code == foreign.status_code == 404
    assert unknown.json()["type"] == foreign.json()["type"]
    assert bad.json()["errors"][0]["field"] == "session_id"


@pytest.mark.parametrize(("method", "path"), [("POST", "/archive"), ("DELETE", "")])
async def test_a_closed_session_takes_no_new_turn(method: str, path: str) -> None:
    desk = Desk()
    await desk.open()
    async with desk.client() as client:
        await client.post(TURNS, json={"content": "a", "turn_id": "t1"})
        assert (await client.request(method, f"/v1/sessions/ses_1{path}")).status_code == 202
        answer = await client.post(TURNS, json={"content": "a", "turn_id": "t2"})
        assert answer.status_code == 409
        assert answer.json()["type"].startswith("urn:turnstile:problem:session_")
        assert (await client.post(TURNS, json={"content": "a", "turn_id": "t1"})).status_code == 202


async def test_too_many_waiting_turns_are_turned_away_at_once() -> None:
    desk = Desk(gate=Gate(1, 0))
    desk.register.meet(KEY, Known(user_id="u1"))
    waiting, let_go = asyncio.Event(), asyncio.Event()

    async def slow(*_: object) -> None:
        waiting.set()
        await let_go.wait()

    desk.inputs.publish = slow  # type: ignore[method-assign, assignment]
    async with desk.client() as client:
        first = asyncio.create_task(client.post(TURNS, json={"content": "a"}))
        await asyncio.wait_for(waiting.wait(), 5)
        answer = await client.post(TURNS, json={"content": "b"})
        assert answer.status_code == 503
        assert answer.json()["type"] == "urn:turnstile:problem:overloaded"
        let_go.set()
        assert (await first).status_code == 202


async def test_a_turn_of_an_erased_session_is_forgotten_here_too() -> None:
    desk = Desk()
    await desk.open()
    async with desk.client() as client:
        await client.post(TURNS, json={"content": "hello", "turn_id": "t1"})
        assert (await client.get(f"{TURNS}/t1")).status_code == 200
        desk.register.hear(KEY, "session.archived")
        assert (await client.get(f"{TURNS}/t1")).status_code == 200
        desk.register.hear(KEY, "session.erased")
        assert (await client.get(f"{TURNS}/t1")).status_code == 404


async def test_a_turn_that_another_process_of_this_gateway_took_is_waited_for() -> None:
    desk = Desk(patience=5.0)
    await desk.open()
    taken = TurnView(
        turn_id="t1", session_id="ses_1", user_id="u1", status="accepted", submitted_at="x"
    )
    look, looks = desk.read_model.turn, 0

    async def comes_late(key: TurnKey) -> TurnView | None:
        nonlocal looks
        looks += 1
        if looks == 2:
            desk.read_model.turns[key] = StoredTurn(taken)
        return await look(key)

    desk.read_model.turn = comes_late  # type: ignore[method-assign]
    async with desk.client() as client:
        assert (await client.get(f"{TURNS}/t1")).status_code == 200
    assert looks == 2
