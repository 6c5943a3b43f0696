"""What nobody can use is refused by HTTP with the field and the reason, and the next turn goes on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from infra.clients.gateway import Json
from infra.simulator import reply_to
from tests.e2e.api import Api
from tests.e2e.archive import Archive
from tests.e2e.provider import Provider
from tests.e2e.refused import assert_refused
from tests.e2e.tenants import ACME, KEYS, UMBRA
from tests.stack import LocalStack

pytestmark = pytest.mark.e2e
SESSION = "bad-input"
DEEP = "[" * 100_000 + "]" * 100_000
BLANK = {"type": "text", "text": " \n\t\u3000"}


@pytest.fixture(scope="module")
async def session(api: Api) -> str:
    """A session that stays good whatever it is sent."""
    await api.open(SESSION)
    return SESSION


TURNS = f"/v1/sessions/{SESSION}/turns"
BODIES: list[tuple[str, str, Any, str]] = [
    ("no content", TURNS, {}, "content"),
    ("empty", TURNS, {"content": ""}, "content"),
    ("white space", TURNS, {"content": " \n\t\u3000"}, "content"),
    ("no blocks", TURNS, {"content": []}, "content"),
    (
        "a blank block",
        TURNS,
        {"content": [{"type": "text", "text": "a"}, BLANK]},
        "content[1].text",
    ),
    ("a number", TURNS, {"content": 7}, "content"),
    ("null", TURNS, {"content": None}, "content"),
    ("unknown block", TURNS, {"content": [{"type": "video"}]}, "content[0].type"),
    ("unknown field", TURNS, {"content": "a", "contnet": "b"}, "contnet"),
    (
        "unknown in block",
        TURNS,
        {"content": [{"type": "text", "text": "a", "x": 1}]},
        "content[0].x",
    ),
    ("bad turn id", TURNS, {"content": "a", "turn_id": "a b"}, "turn_id"),
    ("long turn id", TURNS, {"content": "a", "turn_id": "t" * 129}, "turn_id"),
    ("bad on_busy", TURNS, {"content": "a", "on_busy": "wait"}, "on_busy"),
    ("not an object", TURNS, ["content"], "body"),
    ("no user", "/v1/sessions", {}, "user_id"),
    ("bad user", "/v1/sessions", {"user_id": "a/b"}, "user_id"),
    ("bad session id", "/v1/sessions", {"user_id": "u", "session_id": ""}, "session_id"),
    ("bad mode", "/v1/sessions", {"user_id": "u", "mode": "fast"}, "mode"),
    ("bad budget", "/v1/sessions", {"user_id": "u", "budget_usd": -1}, "budget_usd"),
    ("bad metadata", "/v1/sessions", {"user_id": "u", "metadata": {"a": 1}}, "metadata[...]"),
    ("unknown", "/v1/sessions", {"user_id": "u", "tenant_id": "umbra"}, "tenant_id"),
    ("no result", f"/v1/sessions/{SESSION}/tool_confirmations", {"tool_use_id": "x"}, "result"),
    ("no tool", f"/v1/sessions/{SESSION}/tool_results", {"content": "x"}, "custom_tool_use_id"),
    ("interrupt of what", f"/v1/sessions/{SESSION}/interrupt", {"turn_id": "t"}, "turn_id"),
]


@pytest.mark.parametrize(
    ("path", "body", "field"), [b[1:] for b in BODIES], ids=[b[0] for b in BODIES]
)
async def test_a_wrong_field_is_named(
    api: Api, session: str, path: str, body: Any, field: str
) -> None:
    assert_refused(await api.http.post(path, json=body), 400, "invalid_request", field)


RAW = [b"", b"{", b"nonsense", b"\xff\xfe{}", b'{"content": "\xff"}', b'{"content": "\\ud800"}']


@pytest.mark.parametrize("raw", [*RAW, f'{{"content":[{{"x":{DEEP}}}]}}'.encode()])
async def test_what_is_no_json_is_refused(api: Api, session: str, raw: bytes) -> None:
    assert_refused(await api.http.post(TURNS, content=raw), 400, "invalid_request")


async def test_too_much_is_refused_and_almost_too_much_is_not(api: Api, session: str) -> None:
    room = 1024 * 1024 - len('{"content":"","turn_id":"large"}')
    body = json.dumps({"content": "x" * room, "turn_id": "large"}, separators=(",", ":"))
    assert_refused(await api.http.post(TURNS, content=f"{body} "), 413, "too_large", "content")

    async def drip() -> AsyncIterator[bytes]:  # no content-length: found out while reading
        for _ in range(40):
            yield b" " * 65_536

    assert_refused(await api.http.post(TURNS, content=drip()), 413, "too_large")
    assert (await api.http.post(TURNS, content=body)).status_code == 202
    page = await api.turn_in(session, "large", "completed")
    assert page["reply"] == reply_to("x" * room)


async def test_bad_headers_and_paths_are_named(api: Api, session: str) -> None:
    key = await api.http.post(TURNS, json={"content": "a"}, headers={"Idempotency-Key": "k" * 256})
    assert_refused(key, 400, "invalid_request", "Idempotency-Key")
    last = await api.http.get(f"/v1/sessions/{session}/events", headers={"Last-Event-ID": "x"})
    assert_refused(last, 400, "invalid_request", "Last-Event-ID")
    for query, field in (("at_seq=x", "at_seq"), ("at_seq=-1", "at_seq"), ("at_seq=999", "at_seq")):
        answer = await api.http.get(f"/v1/sessions/{session}?{query}")
        assert_refused(answer, answer.status_code, "invalid_request", field)
        assert 400 <= answer.status_code < 500
    assert_refused(
        await api.http.get(f"/v1/sessions/{'s' * 129}"), 400, "invalid_request", "session_id"
    )
    assert_refused(await api.http.get("/v1/nothing"), 404, "not_found")
    assert_refused(await api.http.put(f"/v1/sessions/{session}"), 405, "method_not_allowed")


async def test_a_key_is_needed(local_stack: LocalStack, session: str) -> None:
    for key in ("wrong", KEYS[ACME] + "x", KEYS[ACME][:-1]):
        stranger = Api(local_stack.gateway, key)
        assert_refused(await stranger.http.get(f"/v1/sessions/{session}"), 401, "unauthorized")
        assert_refused(await stranger.http.post(TURNS, json={"content": "a"}), 401, "unauthorized")
        await stranger.http.aclose()


_ON_A_SESSION: list[tuple[str, str, Json | None]] = [
    ("GET", "", None),
    ("GET", "/turns/t1", None),
    ("GET", "/events", None),
    ("GET", "/replay", None),
    ("POST", "/turns", {"content": "a"}),
    ("POST", "/interrupt", None),
    ("POST", "/tool_confirmations", {"tool_use_id": "sevt_1", "result": "allow"}),
    ("POST", "/tool_results", {"custom_tool_use_id": "sevt_1", "content": "a"}),
    ("POST", "/archive", None),
    ("DELETE", "", None),
]


@pytest.mark.parametrize(("method", "call", "body"), _ON_A_SESSION)
async def test_an_unknown_session_is_404_and_so_is_another_tenants(
    api: Api, umbra: Api, session: str, method: str, call: str, body: Json | None
) -> None:
    word = "unknown_turn" if "turns/" in call else "unknown_session"
    nowhere = await api.http.request(method, f"/v1/sessions/nobody{call}", json=body)
    assert_refused(nowhere, 404, word)
    foreign = await umbra.http.request(method, f"/v1/sessions/{session}{call}", json=body)
    assert_refused(foreign, 404, word)
    for page in (nowhere, foreign):
        assert ACME not in page.text


async def test_two_tenants_with_the_same_ids_never_meet(
    api: Api, umbra: Api, archive: Archive, provider: Provider, session_id: str
) -> None:
    said = {ACME: "the acme side of it", UMBRA: "the umbra side of it"}
    for client, tenant in ((api, ACME), (umbra, UMBRA)):
        await client.open(session_id, title=tenant)
        await client.say(session_id, "t1", said[tenant])
    for client, tenant in ((api, ACME), (umbra, UMBRA)):
        page = await client.turn_in(session_id, "t1", "completed")
        assert page["reply"] == reply_to(said[tenant])
        view = await client.settled(session_id)
        assert (view["tenant_id"], view["title"]) == (tenant, tenant)
        events = await client.events(session_id)
        heard = await client.heard(session_id, view["last_seq"], after=0)
        assert [event.body for event in heard] == events
        assert {event["tenant_id"] for event in events} == {tenant}
        rows = await archive.complete(tenant, session_id, view["last_seq"])
        assert [row.event_id for row in rows] == [event["event_id"] for event in events]
        assert (await provider.only(tenant, session_id)).prompts == [said[tenant]]
        listed = (await client.get("/v1/sessions?limit=200"))["data"]
        assert {one["tenant_id"] for one in listed} == {tenant}


async def test_the_session_still_works_after_all_refusals(api: Api, session: str) -> None:
    await api.say(session, "after-all", "all is well")
    page = await api.turn_in(session, "after-all", "completed")
    assert page["reply"] == reply_to("all is well")
