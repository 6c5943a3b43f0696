"""`prewarm` over HTTP: what is asked of the worker, and that both ways of asking are one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shared.session.inputs import SessionRequested, read_request
from tests.unit.gateway.desk import Desk

pytestmark = pytest.mark.unit


def requests(desk: Desk) -> list[SessionRequested]:
    found = [read_request(envelope.type, value) for envelope, value in desk.inputs.published]
    return [request for request in found if isinstance(request, SessionRequested)]


async def posted(desk: Desk, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
    async with desk.client() as client:
        answer = await client.post(path, json=body)
    return answer.status_code, answer.json()


async def test_a_session_may_be_asked_for_with_its_provider_session() -> None:
    desk = Desk()
    status, page = await posted(desk, "/v1/sessions", user_id="u1", prewarm=True)
    assert (status, page["status"]) == (201, "idle")
    (request,) = requests(desk)
    assert request.prewarm is True


@pytest.mark.parametrize("body", [{}, {"prewarm": False}])
async def test_a_worker_from_before_there_was_such_a_wish_hears_of_none(body: Any) -> None:
    desk = Desk()
    await posted(desk, "/v1/sessions", user_id="u1", **body)
    ((_, value),) = desk.inputs.published
    assert "prewarm" not in msgspec.json.decode(value)


async def test_the_short_way_opens_a_session_of_the_user_and_is_answered_with_it() -> None:
    desk = Desk()
    status, page = await posted(desk, "/v1/prewarm", user_id="u1", agent="agent_1")
    assert (status, page["user_id"], page["agent"]) == (201, "u1", "agent_1")
    (request,) = requests(desk)
    assert (request.session_id, request.prewarm) == (page["session_id"], True)


async def test_a_session_that_the_user_has_is_answered_as_it_is() -> None:
    desk = Desk()
    _, first = await posted(desk, "/v1/sessions", user_id="u1", reuse="user")
    again = await posted(desk, "/v1/sessions", user_id="u1", reuse="user", prewarm=True)
    assert (again[0], again[1]["session_id"]) == (200, first["session_id"])
    assert len(requests(desk)) == 1


async def test_the_short_way_reuses_as_the_gateway_is_set_to() -> None:
    desk = Desk(reuse="user")
    first = await posted(desk, "/v1/prewarm", user_id="u1")
    again = await posted(desk, "/v1/prewarm", user_id="u1")
    assert (first[0], again[0]) == (201, 200)
    assert first[1]["session_id"] == again[1]["session_id"]


async def test_what_else_is_asked_of_it_is_refused_by_name() -> None:
    status, problem = await posted(Desk(), "/v1/prewarm", user_id="u1", title="no")
    assert status == 400
    assert "title" in str(problem)
