"""`reuse` over HTTP: which session a user is answered, and that all who ask are answered the same."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from services.gateway.ports import StoredSession
from tests.unit.gateway.desk import Desk

pytestmark = pytest.mark.unit


async def asked(desk: Desk, key: str | None = None, **body: Any) -> tuple[int, str]:
    """The status, and the session that was answered."""
    headers = {"Idempotency-Key": key} if key else {}
    async with desk.client() as client:
        answer = await client.post("/v1/sessions", json={"user_id": "u1", **body}, headers=headers)
    return answer.status_code, answer.json()["session_id"]


async def closed(desk: Desk, session_id: str, how: str = "archive") -> None:
    async with desk.client() as client:
        path = f"/v1/sessions/{session_id}"
        done = await (client.delete(path) if how == "erase" else client.post(f"{path}/archive"))
    assert done.status_code == 202


async def test_a_user_who_comes_again_goes_on_with_the_same_session() -> None:
    desk = Desk()
    first = await asked(desk, reuse="user")
    assert first[0] == 201
    assert await asked(desk, reuse="user") == (200, first[1])
    assert await asked(desk, reuse="user", agent="other") == (200, first[1])
    assert (await asked(desk, reuse="user", user_id="u2"))[1] != first[1]
    assert (await asked(desk, reuse="never"))[0] == 201
    assert (await asked(desk))[0] == 201
    assert await asked(desk, reuse="user") == (200, first[1])


async def test_with_user_agent_each_agent_has_a_session_of_its_own() -> None:
    desk = Desk()
    one = await asked(desk, reuse="user_agent", agent="agent_1")
    two = await asked(desk, reuse="user_agent", agent="agent_2")
    none = await asked(desk, reuse="user_agent")
    assert [one[0], two[0], none[0]] == [201, 201, 201]
    assert await asked(desk, reuse="user_agent", agent="agent_1") == (200, one[1])
    assert await asked(desk, reuse="user_agent", agent="agent_2") == (200, two[1])
    assert await asked(desk, reuse="user_agent") == (200, none[1])


async def test_two_tenants_never_meet_in_a_user() -> None:
    desk = Desk()
    first = await asked(desk, reuse="user")
    async with desk.client("key-b") as client:
        other = await client.post("/v1/sessions", json={"user_id": "u1", "reuse": "user"})
    assert (other.status_code, other.json()["tenant_id"]) == (201, "other")
    assert other.json()["session_id"] != first[1]


async def test_a_session_opened_without_reuse_is_gone_on_with() -> None:
    desk = Desk()
    await desk.open("ses_old")
    await desk.open("ses_closed")
    await closed(desk, "ses_closed")
    assert await asked(desk, reuse="user") == (200, "ses_old")
    assert await asked(desk, reuse="user_agent", agent="agent_1") != (200, "ses_old")


async def test_a_background_job_is_not_gone_on_with_in_a_chat() -> None:
    desk = Desk()
    await desk.open("ses_job", mode="background")
    assert (await asked(desk, reuse="user"))[0] == 201
    other = Desk()
    await other.open("ses_job", mode="background")
    assert await asked(other, reuse="user", mode="background") == (200, "ses_job")


async def test_a_session_that_was_archived_because_it_was_idle_is_gone_on_with() -> None:
    desk = Desk()
    other = Desk(inputs=desk.inputs, read_model=desk.read_model, users=desk.users, place="b")
    _, first = await asked(desk, reuse="user")
    row = desk.read_model.rows["acme", first]
    view = replace(row.page.view, status="archived", resumable=True)
    desk.read_model.rows["acme", first] = StoredSession(replace(row.page, view=view))
    for gateway in (desk, other):
        assert await asked(gateway, reuse="user") == (200, first)


@pytest.mark.parametrize("how", ["archive", "erase"])
async def test_a_session_closed_on_request_is_replaced(how: str) -> None:
    desk = Desk()
    other = Desk(inputs=desk.inputs, read_model=desk.read_model, users=desk.users, place="b")
    first = await asked(desk, reuse="user")
    await closed(desk, first[1], how)
    again = await asked(other, reuse="user")  # before the projector or the log told it anything
    assert again[0] == 201
    assert again[1] != first[1]
    assert await asked(desk, reuse="user") == (200, again[1])


async def test_a_session_closed_by_another_service_is_replaced() -> None:
    desk = Desk()
    _, first = await asked(desk, reuse="user")
    row = desk.read_model.rows["acme", first]
    desk.read_model.rows["acme", first] = StoredSession(replace(row.page, closing="archive"))
    status, again = await asked(desk, reuse="user")
    assert status == 201
    assert again != first


async def test_a_session_whose_opening_died_is_opened_by_the_next() -> None:
    desk = Desk()
    desk.inputs.down = True
    async with desk.client() as client:
        body = {"user_id": "u1", "reuse": "user"}
        assert (await client.post("/v1/sessions", json=body)).status_code == 503
    desk.inputs.down = False
    held = desk.users.sessions["acme", "u1", "user"]
    assert await asked(desk, reuse="user") == (201, held)


async def test_of_64_at_once_at_two_gateways_one_opens_and_all_are_told_the_same() -> None:
    one = Desk()
    two = Desk(inputs=one.inputs, read_model=one.read_model, users=one.users, place="b")
    for _ in range(2):
        told = await asyncio.gather(
            *(asked((one, two)[number % 2], reuse="user") for number in range(64))
        )
        assert sorted(status for status, _ in told) == [200] * 63 + [201]
        assert len({session for _, session in told}) == 1
        await closed(one, told[0][1])


async def test_under_a_key_the_first_answer_stays_the_answer() -> None:
    desk = Desk()
    first = await asked(desk, "k", reuse="user")
    assert await asked(desk, "k", reuse="user") == (200, first[1])
    await closed(desk, first[1])
    assert await asked(desk, "k", reuse="user") == (200, first[1])
    assert await asked(desk, "other", reuse="user") != (200, first[1])


async def test_the_gateway_may_be_set_to_it_and_a_named_session_is_still_that_one() -> None:
    desk = Desk(reuse="user")
    first = await asked(desk)
    assert first[0] == 201
    assert await asked(desk) == (200, first[1])
    assert await asked(desk, session_id="ses_mine") == (201, "ses_mine")
    assert (await asked(desk, reuse="never"))[0] == 201


async def test_a_name_beside_reuse_names_the_session_that_is_opened() -> None:
    desk = Desk()
    assert await asked(desk, reuse="user", session_id="ses_mine") == (201, "ses_mine")
    assert await asked(desk, reuse="user", session_id="ses_other") == (200, "ses_mine")
    await closed(desk, "ses_mine")
    status, again = await asked(desk, reuse="user", session_id="ses_mine")
    assert status == 201
    assert again != "ses_mine"


async def test_without_the_database_reuse_is_told_to_come_again() -> None:
    desk = Desk()
    desk.users.down = True
    async with desk.client() as client:
        answer = await client.post("/v1/sessions", json={"user_id": "u1", "reuse": "user"})
        wrong = await client.post("/v1/sessions", json={"user_id": "u1", "reuse": "always"})
    assert answer.status_code == 503
    assert wrong.status_code == 400
    assert wrong.json()["errors"][0]["field"] == "reuse"
    assert not desk.inputs.published
