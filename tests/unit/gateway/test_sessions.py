"""Sessions over HTTP: opened, listed, read; keys, scopes and tenants."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from services.gateway.views import SessionPage, SessionView
from tests.unit.gateway.desk import KEY, NOON, Desk, an_entry

pytestmark = pytest.mark.unit
SECOND = timedelta(seconds=1)


async def test_opening_twice_is_one_session() -> None:
    desk = Desk()
    wish = {"user_id": "u1", "session_id": "ses_1", "title": "T", "metadata": {"a": "b"}}
    async with desk.client() as client:
        first = await client.post("/v1/sessions", json=wish)
        again = await client.post("/v1/sessions", json={**wish, "title": "other"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert first.json()["status"] == "idle"
    assert [envelope.type for envelope, _ in desk.inputs.published] == ["session.requested"]


async def test_an_id_is_made_when_none_is_given_and_follows_the_key() -> None:
    desk = Desk()
    async with desk.client() as client:
        made = (await client.post("/v1/sessions", json={"user_id": "u1"})).json()
        headers = {"Idempotency-Key": "k"}
        one = await client.post("/v1/sessions", json={"user_id": "u1"}, headers=headers)
        two = await client.post("/v1/sessions", json={"user_id": "u1"}, headers=headers)
    assert made["session_id"].startswith("ses_")
    assert one.json()["session_id"] == two.json()["session_id"] != made["session_id"]
    assert two.status_code == 200


@pytest.mark.parametrize("then", [None, "ses_2"])
@pytest.mark.parametrize("first", [None, "ses_1"])
async def test_under_one_key_the_first_requests_session_is_the_session(
    first: str | None, then: str | None
) -> None:
    desk = Desk()
    other = Desk(inputs=desk.inputs, read_model=desk.read_model)
    told = []
    for where, session_id in ((desk, first), (desk, then), (other, then), (other, first)):
        body = {"user_id": "u1", **({"session_id": session_id} if session_id else {})}
        async with where.client() as client:
            answer = await client.post("/v1/sessions", json=body, headers={"Idempotency-Key": "k"})
        told.append((answer.status_code, answer.json()["session_id"]))
    assert [status for status, _ in told] == [201, 200, 200, 200]
    assert {id for _, id in told} == {first or told[0][1]}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"user_id": None}, "user_id"),
        ({"user_id": ""}, "user_id"),
        ({"session_id": "a/b"}, "session_id"),
        ({"budget_usd": 0}, "budget_usd"),
        ({"mode": "fast"}, "mode"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"metadata": {"k": "x" * 513}}, "metadata[...]"),
        ({"titel": "x"}, "titel"),
    ],
)
async def test_a_wrong_session_is_named(change: dict[str, Any], field: str) -> None:
    desk = Desk()
    async with desk.client() as client:
        answer = await client.post("/v1/sessions", json={"user_id": "u1", **change})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == field


async def test_of_those_who_ask_for_one_id_at_once_one_opens_it() -> None:
    desk = Desk()
    async with desk.client() as client:
        wishes = [{"user_id": "u1", "session_id": "ses_1", "title": str(n)} for n in range(9)]
        answers = await asyncio.gather(*(client.post("/v1/sessions", json=w) for w in wishes))
    assert sorted(answer.status_code for answer in answers) == [200] * 8 + [201]
    assert len({answer.text for answer in answers}) == 1
    assert [envelope.type for envelope, _ in desk.inputs.published] == ["session.requested"]
    assert not desk.accept.opening


async def test_of_two_gateways_that_open_one_id_at_once_one_is_told_that_it_is_new() -> None:
    one = Desk()
    two = Desk(read_model=one.read_model, inputs=one.inputs, clock=lambda: NOON + SECOND)
    met = asyncio.Barrier(2)
    publish = one.inputs.publish

    async def together(*what: Any) -> None:
        await asyncio.wait_for(met.wait(), 5)  # both have looked and found nothing
        await publish(*what)

    one.inputs.publish = together  # type: ignore[method-assign, assignment]
    async with one.client() as first, two.client() as second:
        wish = {"user_id": "u1", "session_id": "ses_1"}
        answers = await asyncio.gather(
            first.post("/v1/sessions", json={**wish, "title": "one"}),
            second.post("/v1/sessions", json={**wish, "title": "two"}),
        )
    assert sorted(answer.status_code for answer in answers) == [200, 201]
    assert answers[0].json() == answers[1].json()
    assert len({envelope.id for envelope, _ in one.inputs.published}) == 1


async def test_a_session_that_the_projector_writes_first_is_new_all_the_same() -> None:
    desk = Desk()
    publish = desk.inputs.publish

    async def projected(*what: Any) -> None:
        await publish(*what)
        await desk.read_model.open(an_opened_page(last_seq=1))

    desk.inputs.publish = projected  # type: ignore[method-assign, assignment]
    await desk.open(title="T")


def an_opened_page(**change: Any) -> SessionPage:
    """The row of ses_1 once the agent-worker opened it, by its own clock."""
    view = SessionView(
        session_id="ses_1",
        tenant_id="acme",
        user_id="u1",
        title="T",
        status="idle",
        created_at="2026-11-21T12:00:01.000000Z",
    )
    return SessionPage(view=replace(view, **change))


async def test_an_id_made_here_asks_the_database_nothing_before_the_log() -> None:
    desk = Desk()
    desk.read_model.down = True
    async with desk.client() as client:
        named = await client.post("/v1/sessions", json={"user_id": "u1", "session_id": "ses_1"})
        made = await client.post("/v1/sessions", json={"user_id": "u1"})
    assert (named.status_code, made.status_code) == (503, 201)


async def test_a_session_is_remembered_when_the_database_goes_after_the_log() -> None:
    desk = Desk()
    publish = desk.inputs.publish

    async def then_down(*what: Any) -> None:
        await publish(*what)
        desk.read_model.down = True

    desk.inputs.publish = then_down  # type: ignore[method-assign, assignment]
    await desk.open()
    desk.inputs.publish = publish  # type: ignore[method-assign]
    async with desk.client() as client:
        answer = await client.post("/v1/sessions/ses_1/turns", json={"content": "a"})
    assert answer.status_code == 202
    desk.read_model.down = False
    await desk.project()
    assert KEY in desk.read_model.rows


async def test_a_list_is_the_tenants_own_and_comes_in_pages() -> None:
    desk = Desk()
    for number in range(5):
        await desk.open(f"ses_{number}", user_id="even" if number % 2 == 0 else "odd")
    async with desk.client() as client:
        first = (await client.get("/v1/sessions?limit=3")).json()
        cursor = first["next_cursor"]
        second = (await client.get(f"/v1/sessions?limit=3&cursor={cursor}")).json()
        odd = (await client.get("/v1/sessions?user_id=odd")).json()
        assert (await client.get("/v1/sessions?status=running")).json()["data"] == []
        for query in ("limit=0", "limit=x", "status=new", "cursor=%21%21", "user_id=a%20b"):
            answer = await client.get(f"/v1/sessions?{query}")
            assert (answer.status_code, query.split("=")[0]) == (
                400,
                answer.json()["errors"][0]["field"],
            )
    async with desk.client("key-b") as client:
        assert (await client.get("/v1/sessions")).json() == {"data": [], "next_cursor": None}
    found = [one["session_id"] for one in first["data"] + second["data"]]
    assert found == ["ses_4", "ses_3", "ses_2", "ses_1", "ses_0"]
    assert second["next_cursor"] is None
    assert [one["session_id"] for one in odd["data"]] == ["ses_3", "ses_1"]


async def test_a_session_is_shown_as_it_was_at_a_seq() -> None:
    desk = Desk()
    await desk.open()
    opened = {"user_id": "u1", "title": "T"}
    turn = {"turn_id": "turn_1", "user_id": "u1", "status": "accepted", "submitted_at": "x"}
    desk.archive.entries[KEY] = [
        an_entry(1, type="session.opened", data=opened, turn_id=None),
        an_entry(2, type="turn.accepted", data={**turn, "content": "hi", "input_id": "in_1"}),
    ]
    desk.publish(3, type="turn.completed", data={**turn, "status": "completed"})
    async with desk.client() as client:
        path = "/v1/sessions/ses_1?at_seq="
        one, two, three = [(await client.get(path + str(seq))).json() for seq in (1, 2, 3)]
        for wrong in ("0", "4", "-1", "x", "1.5", ""):
            answer = await client.get(path + wrong)
            assert answer.status_code == 400, wrong
            assert answer.json()["errors"][0]["field"] == "at_seq"
    assert [state["last_seq"] for state in (one, two, three)] == [1, 2, 3]
    assert [state["open_turn"] for state in (one, two, three)] == [None, "turn_1", None]
    assert (one["title"], two["status"], three["status"]) == ("T", "running", "idle")


async def test_the_scopes_of_a_key_decide_what_it_may_do() -> None:
    desk = Desk()
    await desk.open()
    for key, get, post in (
        (None, 401, 401),
        ("wrong", 401, 401),
        ("key-r", 200, 403),
        ("key-w", 403, 202),
        ("key-b", 404, 404),
    ):
        async with desk.client(key) as client:
            assert (await client.get("/v1/sessions/ses_1")).status_code == get
            answer = await client.post("/v1/sessions/ses_1/interrupt")
            assert answer.status_code == post
            if post == 401:
                assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_tenants_may_use_the_same_id_and_never_meet() -> None:
    desk = Desk()
    await desk.open()
    async with desk.client("key-b") as client:
        wish = {"user_id": "u2", "session_id": "ses_1"}
        assert (await client.post("/v1/sessions", json=wish)).status_code == 201
        assert (await client.get("/v1/sessions/ses_1")).json()["user_id"] == "u2"
    async with desk.client() as client:
        assert (await client.get("/v1/sessions/ses_1")).json()["user_id"] == "u1"


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("interrupt", None, "interrupt.requested"),
        ("interrupt", {}, "interrupt.requested"),
        ("tool_confirmations", {"tool_use_id": "sevt_1", "result": "allow"}, "tool.confirmed"),
        (
            "tool_results",
            {"custom_tool_use_id": "sevt_1", "content": "42", "is_error": False},
            "tool.answered",
        ),
        ("archive", None, "session.archive_requested"),
    ],
)
async def test_every_wish_is_published_as_its_input(path: str, body: Any, kind: str) -> None:
    desk = Desk()
    await desk.open()
    async with desk.client() as client:
        answer = await client.post(f"/v1/sessions/ses_1/{path}", json=body)
    assert (answer.status_code, answer.json()["status"]) == (202, "accepted")
    assert desk.inputs.published[-1][0].type == kind


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("interrupt", {"now": True}, "now"),
        ("tool_confirmations", {"tool_use_id": "s", "result": "maybe"}, "result"),
        ("tool_confirmations", {"result": "allow"}, "tool_use_id"),
        ("tool_results", {"custom_tool_use_id": "", "content": "a"}, "custom_tool_use_id"),
        ("tool_results", {"custom_tool_use_id": "s", "content": 1}, "content"),
    ],
)
async def test_a_wrong_wish_is_named(path: str, body: Any, field: str) -> None:
    desk = Desk()
    await desk.open()
    async with desk.client() as client:
        answer = await client.post(f"/v1/sessions/ses_1/{path}", json=body)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == field
